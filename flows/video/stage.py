"""The stage that indexes one video: decode -> encode -> store, in memory bounded by a few chunks of segments.

It is the same in one process and inside an actor: it writes parts and segment rows through a ``VideoWriter`` and hands
back small facts. Making the video visible is the caller's. While a chunk is encoded, the next one is read and the one
before is written: the model waits for neither.

What is kept of the content is used again: states (nothing is encoded), else kept frames (nothing is decoded). The
model sees the frames as they are kept, JPEG and all, so that a later encoding from them equals the first.
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
from flows.video.encoder import BATCH_SEGMENTS, Encoded, Encoder
from flows.video.source_frames import Closed, Item, Sampled
from storage.records import Part, VideoFacts, VideoRecord
from tempo_core.errors import CorruptPart
from tempo_core.pixels import decode_jpeg, patchify
from tempo_core.sampling import SegmentSpan
from tempo_core.spec import IndexSpec
from tempo_core.values import FloatArray, SegmentPixels

if TYPE_CHECKING:
    from storage import Library, VideoWriter

Element = TypeVar("Element")
READ_BYTES = 1 << 23
CHUNKS_AHEAD = 2  # of a video, with the encoder at a time: one is computed while the next one waits

# (frames done, frames in all, seconds of video that the done ones cover); what it raises stops the stage
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Origin:
    """Where a video's segments come from: the source's stream behind ``Opened``, or what the library keeps of it."""

    stream: Iterator[Item] | None = None
    frames: VideoRecord | None = None
    states: VideoRecord | None = None


@dataclass(frozen=True)
class Indexer:
    """What every video of a run shares."""

    library: Library
    encoder: Encoder
    model_id: str
    spec: IndexSpec

    def index_video(self, video: VideoWriter, origin: Origin, progress: Progress) -> tuple[VideoFacts, Spent]:
        """Write frames, states and features of one video; the facts to commit it with, and the seconds it took.

        VideoError where the file is no usable video, CorruptPart where what was kept is damaged. Nothing is visible
        yet, and memory stays bounded whatever the video's length.
        """
        if origin.states is not None:
            return self._from_states(video, origin.states, progress)
        if origin.frames is not None:
            return self._from_frames(video, origin.frames, progress)
        if origin.stream is None:
            raise ValueError("neither a source nor anything kept of it")
        return self._from_stream(video, origin.stream, progress)

    def _from_stream(self, video: VideoWriter, stream: Iterator[Item], progress: Progress) -> tuple[VideoFacts, Spent]:
        sampled, end = next(stream), list[Closed]()
        assert isinstance(sampled, Sampled), sampled
        spent = self._encode(video, _kept(video, stream, end), sampled.spans, progress)
        facts = VideoFacts(
            duration_s=sampled.duration_s,
            width=sampled.width,
            height=sampled.height,
            model_id=self.model_id,
            spec=self.spec,
            start_s=sampled.start_s,
            warnings=end[0].warnings,
        )
        return facts, replace(spent, decode_s=end[0].seconds)

    def _from_frames(self, video: VideoWriter, record: VideoRecord, progress: Progress) -> tuple[VideoFacts, Spent]:
        _require_sound(self.library, record.frames_part)
        video.reuse_frames(record)
        spans = [segment.span for segment in self.library.segments(record)]
        kept = (jpegs for _, jpegs, _ in self.library.read_frames(record))
        return self._reused_facts(record), self._encode(video, kept, spans, progress)

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
        self, video: VideoWriter, kept: Iterator[list[bytes]], spans: Sequence[SegmentSpan], progress: Progress
    ) -> Spent:
        """All segments, in their order, whatever else the encoder has under way."""
        written = _Written(video, progress, sum(span.count for span in spans))
        ahead: deque[tuple[Future[Encoded], Sequence[SegmentSpan]]] = deque()
        for chunk in _chunks(zip(kept, spans, strict=True)):
            ahead.append((self.encoder.submit([_pixels(*one) for one in chunk]), [span for _, span in chunk]))
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
    """States that are written as they come; features are kept until the end (4 kB a segment)."""

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


def _kept(video: VideoWriter, stream: Iterator[Item], end: list[Closed]) -> Iterator[list[bytes]]:
    """Each segment's frames as JPEG files, stored on the way; the stream's last item goes into ``end``."""
    for item in stream:
        if isinstance(item, Closed):
            end.append(item)
            continue
        assert isinstance(item, list), item
        for segment in item:
            video.add_frames(segment.index, segment.jpegs, segment.times_s)
            yield segment.jpegs


def _require_sound(library: Library, part: Part) -> None:
    """CorruptPart unless the part is what was written: a flipped bit would become states that no one can tell."""
    digest = hashlib.sha256()
    with suppress(FileNotFoundError), library.store.open(part.path) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    if digest.hexdigest() != part.sha256:
        raise CorruptPart(f"{library.uri}/{part.path} is not what was written; `tempo verify` tells what else is")


def _pixels(jpegs: Sequence[bytes], span: SegmentSpan) -> SegmentPixels:
    patches, grid_thw = patchify(decode_jpeg(jpegs))
    return SegmentPixels(patches, grid_thw, span.pair_times_s)


def _chunks(elements: Iterable[Element]) -> Iterator[list[Element]]:
    """Consecutive lists of ``BATCH_SEGMENTS`` (the same cuts each time: a batch's size may move the last bit)."""
    rest = iter(elements)
    while chunk := list(islice(rest, BATCH_SEGMENTS)):
        yield chunk
