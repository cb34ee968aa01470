"""The stage that indexes one video: decode -> encode -> store, in memory bounded by a batch of segments.

It is the same in one process and inside an actor: it writes parts and segment rows through a ``VideoWriter`` and hands
back small facts. Making the video visible is the caller's.

What is kept of the content is used again: states (nothing is encoded), else kept frames (nothing is decoded). The
model sees the frames as they are kept, JPEG and all, so that a later encoding from them equals the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from storage.records import Part, VideoFacts, VideoRecord
from tempo_core.decoding import SegmentReader, VideoInfo, probe, read_segments
from tempo_core.errors import CorruptPart
from tempo_core.pixels import decode_jpeg, encode_jpeg, patchify
from tempo_core.sampling import SegmentSpan, segment_spans
from tempo_core.spec import IndexSpec
from tempo_core.values import FloatArray, SegmentPixels, SegmentState

if TYPE_CHECKING:
    from storage import Library, VideoWriter
    from tempo_core import Checkpoint

Item = TypeVar("Item")
READ_BYTES = 1 << 23
BATCH_SEGMENTS = 16  # one forward pass: 16 segments of 512x256 are 100 MB of pixels

Progress = Callable[[int, int], None]  # (frames done, frames in all)


@dataclass(frozen=True)
class Origin:
    """Where a video's segments come from: the file, or what the library keeps of the same content."""

    path: Path | None = None
    frames: VideoRecord | None = None
    states: VideoRecord | None = None


@dataclass(frozen=True)
class Indexer:
    """What every video of a run shares."""

    library: Library
    checkpoint: Checkpoint
    spec: IndexSpec

    def index_video(self, video: VideoWriter, origin: Origin, progress: Progress) -> VideoFacts:
        """Write frames, states and features of one video; the facts to commit it with.

        VideoError where the file is no usable video, CorruptPart where what was kept is damaged. Nothing is visible
        yet, and memory stays bounded whatever the video's length: ``BATCH_SEGMENTS`` at a time.
        """
        if origin.states is not None:
            return self._from_states(video, origin.states, progress)
        if origin.frames is not None:
            return self._from_frames(video, origin.frames, progress)
        if origin.path is None:
            raise ValueError("neither a file nor anything kept of it")
        return self._from_file(video, origin.path, progress)

    def _from_file(self, video: VideoWriter, path: Path, progress: Progress) -> VideoFacts:
        info = probe(path)
        with read_segments(path, info, self.spec, self.checkpoint.geometry) as reader:
            spans = segment_spans(reader.sampling, self.spec)
            kept = _kept(video, reader, self.spec.jpeg_quality)
            self._encode(video, kept, spans, progress)
            return self._facts(info, (*info.warnings, *reader.warnings))

    def _from_frames(self, video: VideoWriter, record: VideoRecord, progress: Progress) -> VideoFacts:
        _require_sound(self.library, record.frames_part)
        video.reuse_frames(record)
        spans = [segment.span for segment in self.library.segments(record)]
        kept = (jpegs for _, jpegs, _ in self.library.read_frames(record))
        self._encode(video, kept, spans, progress)
        return self._reused_facts(record)

    def _from_states(self, video: VideoWriter, record: VideoRecord, progress: Progress) -> VideoFacts:
        video.reuse_states(record)
        video.reuse_frames(record)
        segments = self.library.segments(record)
        features, done = [], 0
        for batch in _batches(segments):
            indices = [segment.index for segment in batch]
            features.append(self._features(self.library.read_states(record, indices, segments=segments, verify=True)))
            done += sum(segment.span.count for segment in batch)
            progress(done, record.frames)
        video.add_features(np.concatenate(features), [segment.span for segment in segments])
        return self._reused_facts(record)

    def _encode(
        self, video: VideoWriter, kept: Iterator[list[bytes]], spans: Sequence[SegmentSpan], progress: Progress
    ) -> None:
        features, done, total = [], 0, sum(span.count for span in spans)
        for batch in _batches(zip(kept, spans, strict=True)):
            pixels = [_pixels(jpegs, span) for jpegs, span in batch]
            states = self.checkpoint.compressor.encode(pixels, state_dtype=self.spec.state_dtype)
            for state in states:
                video.add_state(state)
            features.append(self._features(states))
            done += sum(span.count for _, span in batch)
            progress(done, total)
        video.add_features(np.concatenate(features), spans)

    def _features(self, states: Sequence[SegmentState]) -> FloatArray:
        compressor = self.checkpoint.compressor
        return compressor.features(compressor.prefill(states))

    def _facts(self, info: VideoInfo, warnings: tuple[str, ...]) -> VideoFacts:
        return VideoFacts(
            duration_s=float(info.duration),
            width=info.width,
            height=info.height,
            model_id=self.checkpoint.id,
            spec=self.spec,
            start_s=float(info.start),
            warnings=warnings,
        )

    def _reused_facts(self, record: VideoRecord) -> VideoFacts:
        return replace(record.facts, model_id=self.checkpoint.id, spec=self.spec, title="")


def _kept(video: VideoWriter, reader: SegmentReader, jpeg_quality: int) -> Iterator[list[bytes]]:
    """Each segment's frames as JPEG files, stored on the way."""
    for segment in reader:
        jpegs = encode_jpeg(segment.pixels, jpeg_quality)
        video.add_frames(segment.index, jpegs, segment.times_s)
        yield jpegs


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


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Consecutive lists of ``BATCH_SEGMENTS`` (the same cuts each time: a batch's size may move the last bit)."""
    rest = iter(items)
    while batch := list(islice(rest, BATCH_SEGMENTS)):
        yield batch
