"""Staging one video: decode -> encode -> store, in memory bounded by a few chunks of segments.

It is the same in one process and inside an actor: it writes parts through a ``VideoWriter`` and hands
back small facts; the caller makes the video visible. While a chunk is encoded, the next one is read and the one
before is written: the model waits for neither.

What the library has of the same video is used again: its states (nothing is encoded), else its frames (nothing is
decoded). The model sees frames as they are stored, as JPEG, so that encoding them later gives the same states.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from flows.snapshot import Spent
from flows.video.encoder import Encoded, Encoder
from flows.video.source_frames import SourceReading
from storage.records import Content, Part, VideoFacts, VideoRecord
from tempo_core.errors import CorruptPart
from tempo_core.pixels import ENCODED_AT_A_TIME, kept_pixels
from tempo_core.sampling import SegmentSpan
from tempo_core.spec import IndexSpec
from tempo_core.values import FloatArray

if TYPE_CHECKING:
    from storage import Library, VideoWriter

Element = TypeVar("Element")
READ_BYTES = 1 << 23
CHUNKS_AHEAD = 2  # of a video, with the encoder at a time: one is computed while the next one waits

# (frames done, frames in all, seconds of video that the done ones cover); what it raises ends the staging
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Indexer:
    """What every video of a run shares."""

    library: Library
    encoder: Encoder
    model_id: str
    spec: IndexSpec

    def index_video(
        self, video: VideoWriter, origin: SourceReading | Content, progress: Progress
    ) -> tuple[VideoFacts, Spent]:
        """Write frames, states and features of one video; returns the facts to commit it with and the seconds it took.

        ``origin``: the video's source, or what the library has of it: its states are used before its frames.
        VideoError where the file is no usable video, CorruptPart where what the library has is damaged. Nothing is
        visible yet, and memory stays bounded whatever the video's length.
        """
        if isinstance(origin, SourceReading):
            return self._from_source(video, origin, progress)
        if origin.states is not None:
            return self._from_states(video, origin.states, progress)
        assert origin.frames is not None
        return self._from_frames(video, origin.frames, progress)

    def _from_source(self, video: VideoWriter, reading: SourceReading, progress: Progress) -> tuple[VideoFacts, Spent]:
        sampled = reading.sampled()
        spent = self._encode(video, _stored(video, reading), sampled.spans, progress)
        facts = VideoFacts(
            duration_s=sampled.duration_s,
            width=sampled.width,
            height=sampled.height,
            model_id=self.model_id,
            spec=self.spec,
            start_s=sampled.start_s,
            warnings=reading.closed.warnings,
        )
        return facts, replace(spent, decode_s=reading.closed.seconds)

    def _from_frames(self, video: VideoWriter, record: VideoRecord, progress: Progress) -> tuple[VideoFacts, Spent]:
        _require_sound(self.library, record.frames_part)
        video.reuse_frames(record)
        spans = [segment.span for segment in self.library.segments(record)]
        frames = (jpegs for _, jpegs, _ in self.library.read_frames(record))
        return self._reused_facts(record), self._encode(video, frames, spans, progress)

    def _from_states(self, video: VideoWriter, record: VideoRecord, progress: Progress) -> tuple[VideoFacts, Spent]:
        video.reuse_states(record)
        video.reuse_frames(record)
        segments = self.library.segments(record)
        features, done, began = [], 0, time.monotonic()
        for batch in _chunks(segments):
            indices = [segment.index for segment in batch]
            states = self.library.read_states(record, indices, segments=segments, verify=True)
            features.append(self.encoder.features(states).result())
            done += sum(segment.span.count for segment in batch)
            progress(done, record.frame_count, batch[-1].span.end_s)
        video.add_features(np.concatenate(features), [segment.span for segment in segments])
        return self._reused_facts(record), Spent(encode_s=time.monotonic() - began)

    def _encode(
        self, video: VideoWriter, frames: Iterator[list[bytes]], spans: Sequence[SegmentSpan], progress: Progress
    ) -> Spent:
        """Encode and write all segments in their order. ``frames``: the JPEG files of each segment of ``spans``."""
        written = _Written(video, progress, sum(span.count for span in spans))
        ahead: deque[tuple[Future[Encoded], Sequence[SegmentSpan]]] = deque()
        for chunk in _chunks(zip(frames, spans, strict=True)):
            pixels = [kept_pixels(jpegs, span.pair_times_s) for jpegs, span in chunk]
            ahead.append((self.encoder.submit(pixels), [span for _, span in chunk]))
            if len(ahead) == CHUNKS_AHEAD:
                written.add(*ahead.popleft())
        for waiting in ahead:
            written.add(*waiting)
        video.add_features(np.concatenate(written.features), spans)
        return Spent(encode_s=written.encode_s, write_s=written.write_s)

    def _reused_facts(self, record: VideoRecord) -> VideoFacts:
        return replace(record.facts, model_id=self.model_id, spec=self.spec)


@dataclass
class _Written:
    """Writes states as they come, and collects the features until the end (4 kB a segment)."""

    video: VideoWriter
    progress: Progress
    total: int
    features: list[FloatArray] = field(default_factory=list)
    done: int = 0
    encode_s: float = 0.0
    write_s: float = 0.0

    def add(self, future: Future[Encoded], spans: Sequence[SegmentSpan]) -> None:
        encoded = future.result()
        began = time.monotonic()
        for state in encoded.states:
            self.video.add_state(state)
        self.write_s += time.monotonic() - began
        self.encode_s += encoded.seconds
        self.features.append(encoded.features)
        self.done += sum(span.count for span in spans)
        self.progress(self.done, self.total, spans[-1].end_s)


def _stored(video: VideoWriter, reading: SourceReading) -> Iterator[list[bytes]]:
    """Each segment's frames as JPEG files, written to ``video`` on the way."""
    for segment in reading.segments():
        video.add_frames(segment.index, segment.jpegs, segment.times_s)
        yield segment.jpegs


def _require_sound(library: Library, part: Part) -> None:
    """CorruptPart unless the part is what was written: nobody could see from its states that a bit was flipped."""
    digest = hashlib.sha256()
    with suppress(FileNotFoundError), library.store.open(part.path) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    if digest.hexdigest() != part.sha256:
        raise CorruptPart(f"{library.uri}/{part.path} is not what was written; `tempo verify` lists what else is")


def _chunks(elements: Iterable[Element]) -> Iterator[list[Element]]:
    """Consecutive lists, cut alike each time: a batch's size may move the last bit of a state."""
    rest = iter(elements)
    while chunk := list(islice(rest, ENCODED_AT_A_TIME)):
        yield chunk
