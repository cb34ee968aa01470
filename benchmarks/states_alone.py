"""A made video's states as a library: a real one, or in memory where LanceDB is not installed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from storage import Library, ModelRecord, SegmentRecord, Source, StagedVideo, VideoFacts, VideoRecord, open_library
from storage.records import Part, StateSlice
from tempo_core.fingerprints import Fingerprints
from tempo_core.pixels import encode_jpeg
from tempo_core.sampling import SegmentSpan
from tempo_core.spec import IndexSpec
from tempo_core.values import FloatArray, SegmentState

URI = "/archive/made.mp4"
VIDEO_ID = hashlib.sha256(URI.encode()).hexdigest()
GREY = np.full((1, 16, 16, 3), 128, np.uint8)


@dataclass(frozen=True)
class MadeVideo:
    """What indexing would have stored of a video, but for its frames."""

    fingerprints: Fingerprints
    spec: IndexSpec
    spans: Sequence[SegmentSpan]
    states: Sequence[SegmentState]
    features: FloatArray

    def facts(self, model_id: str) -> VideoFacts:
        return VideoFacts(self.spans[-1].end_s, width=16, height=16, model_id=model_id, spec=self.spec)


def committed(made: MadeVideo, model_id: str, folder: Path) -> Library:
    """A library on disk that holds the video, with grey frames."""
    library = open_library(str(folder), create=True)
    (jpeg,) = encode_jpeg(GREY, 80)
    with library.writer() as writer, library.stage(VIDEO_ID, made.fingerprints) as video:
        for span, state in zip(made.spans, made.states, strict=True):
            times_s = np.linspace(span.start_s, span.end_s, span.count, endpoint=False).tolist()
            video.add_frames(span.index, [jpeg] * span.count, times_s)
            video.add_state(state)
        video.add_features(made.features, made.spans)
        writer.commit(StagedVideo(video.finish(), Source(URI, 1, "1"), made.facts(model_id)))
    return library


@dataclass(frozen=True)
class StatesAlone:
    """What the engine asks of a library where videos are named."""

    made: MadeVideo

    def as_library(self) -> Library:
        return cast(Library, self)

    def models(self) -> list[ModelRecord]:
        return [ModelRecord(self.made.fingerprints, "made", self.made.spec)]

    def videos(self) -> list[VideoRecord]:
        part, segments = Part("", "", 0), len(self.made.spans)
        facts, source = self.made.facts("made"), Source(URI, 1, "1")
        frames = sum(span.count for span in self.made.spans)
        return [
            VideoRecord(
                source, VIDEO_ID, "made", self.made.fingerprints, facts, part, part, segments, frames, time.time()
            )
        ]

    def segments_of(self, videos: Sequence[VideoRecord]) -> list[list[SegmentRecord]]:
        return [self._records() for _ in videos]

    def read_states(self, video: VideoRecord, segments: Sequence[SegmentRecord]) -> list[SegmentState]:  # noqa: ARG002
        return [self.made.states[one.index] for one in segments]

    def mark_asked(self, video_ids: Iterable[str]) -> None:
        """It has no budget of states."""

    def _records(self) -> list[SegmentRecord]:
        kept = zip(self.made.spans, self.made.states, strict=True)
        return [SegmentRecord(VIDEO_ID, "made", span, _slice(state)) for span, state in kept]


def _slice(state: SegmentState) -> StateSlice:
    levels, tokens, row_bytes = state.rows.shape
    return StateSlice(0, state.rows.nbytes, 0, levels, tokens, row_bytes, state.grid_thw)
