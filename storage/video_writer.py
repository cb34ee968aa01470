"""One video on its way into the library: its parts. The ``Writer`` commits what is staged so, and adds the rows."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from storage.frame_part import FramesPartWriter
from storage.generations import new_generation, part_path
from storage.records import (
    FeatureArray,
    Part,
    SegmentRecord,
    StagedContent,
    StateSlice,
    VideoRecord,
    present_parts,
)
from storage.segment_states import segment_records
from storage.state_part import StatesPartWriter
from storage.stores.base import Store
from storage.tables import Tables
from tempo_core.errors import LibraryError
from tempo_core.fingerprints import Fingerprints
from tempo_core.sampling import SegmentSpan
from tempo_core.spec import Keep
from tempo_core.values import SegmentState


class VideoWriter:
    """Takes a video's frames, states and features in order of its segments, in constant memory.

    It is a context manager: left without ``finish()``, nothing of it stays. It needs no lease: nobody sees what it
    wrote before a commit, and a sweep leaves it alone for a grace period from now. ``keep`` "frames": of the states,
    the shapes alone are written, into the segment rows.
    """

    def __init__(self, store: Store, tables: Tables, video_id: str, fingerprints: Fingerprints, keep: Keep) -> None:
        self.video_id = video_id
        self.fingerprints = fingerprints
        self.generation = new_generation()
        self._store, self._tables = store, tables
        self._frames: FramesPartWriter | None = None
        self._states: StatesPartWriter | None = None
        self._keeps_states = keep == "states"
        self._shapes: list[StateSlice] = []  # of states that are not kept
        self._pair_times: list[tuple[float, ...]] = []
        self._reused_frames: VideoRecord | None = None
        self._reused_states: VideoRecord | None = None
        self._features: FeatureArray | None = None
        self._spans: Sequence[SegmentSpan] = ()
        self._published: list[str] = []
        self._is_open = True  # neither finished nor aborted

    def add_frames(self, index: int, jpegs: Sequence[bytes], times_s: Sequence[float]) -> None:
        """The JPEGs of segment ``index`` and the presentation time of each."""
        if self._frames is None:
            self._frames = FramesPartWriter(self._store.staging(self._path("frames")))
        self._frames.add(index, jpegs, times_s)

    def add_state(self, state: SegmentState) -> None:
        """The next segment's state."""
        if self._keeps_states:
            if self._states is None:
                self._states = StatesPartWriter(self._store.staging(self._path("states")))
            self._states.add(state)
        else:
            self._shapes.append(_shape(state))
        self._pair_times.append(state.pair_times_s)

    def add_features(self, features: FeatureArray, spans: Sequence[SegmentSpan]) -> None:
        """float32 [segments, D], and the times of the segments."""
        self._features, self._spans = np.ascontiguousarray(features, np.float32), spans

    def reuse_frames(self, record: VideoRecord) -> None:
        """Take over the frames part of another generation of this content."""
        self._expect(record.fingerprints.frames, self.fingerprints.frames, record)
        self._reused_frames = record

    def reuse_states(self, record: VideoRecord) -> None:
        """Take over the states part of another generation of this content; where none is to be kept, the shapes."""
        self._expect(record.fingerprints.states, self.fingerprints.states, record)
        self._reused_states = record

    def finish(self) -> StagedContent:
        """Publish the parts. ValueError if counts or times do not agree.

        From then on they wait for a commit: nothing is aborted any more, and what is never committed ``prune`` sweeps.
        """
        frames_part, frame_count = self._finish_frames()
        states_part, slices = self._finish_states()
        segments = self._segments(slices)
        own = {self._path("frames"): self._frames, self._path("states"): self._states}
        for part in present_parts(frames_part, states_part):
            if own.get(part.path) is not None:
                self._published.append(part.path)
                self._store.publish(self._store.staging(part.path), part.path)
        assert self._features is not None
        self._is_open = False
        return StagedContent(
            video_id=self.video_id,
            generation=self.generation,
            fingerprints=self.fingerprints,
            frames_part=frames_part,
            states_part=states_part,
            segments=segments,
            features=self._features,
            frame_count=frame_count,
        )

    def abort(self) -> None:
        """Remove every trace; nothing happens once it is finished."""
        if not self._is_open:
            return
        for writer in (self._frames, self._states):
            if writer is not None:
                writer.abort()
        for path in self._published:
            self._store.delete(path)
        self._is_open = False

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.abort()
            return
        # The error that led here is the one to report; what is left, prune sweeps.
        with contextlib.suppress(OSError, LibraryError):
            self.abort()

    def _path(self, kind: str) -> str:
        fingerprint = self.fingerprints.frames if kind == "frames" else self.fingerprints.states
        return part_path(kind, self.video_id, fingerprint, self.generation)

    def _expect(self, fingerprint: str, expected: str, record: VideoRecord) -> None:
        if record.video_id != self.video_id or fingerprint != expected:
            raise ValueError(f"a part of {record.uri} ({fingerprint}) is not one for {self.video_id} ({expected})")

    def _finish_frames(self) -> tuple[Part, int]:
        if self._reused_frames is not None:
            return self._reused_frames.frames_part, self._reused_frames.frame_count
        if self._frames is None:
            raise ValueError("no frames were added or reused")
        return Part(self._path("frames"), *self._frames.finish()), self._frames.frame_count

    def _finish_states(self) -> tuple[Part | None, list[StateSlice]]:
        if self._reused_states is not None:
            slices = [segment.state for segment in segment_records(self._tables, self._reused_states)]
            return (self._reused_states.states_part, slices) if self._keeps_states else (None, slices)
        if self._shapes:
            return None, self._shapes
        if self._states is None:
            raise ValueError("no states were added or reused")
        sha256, size, slices = self._states.finish()
        return Part(self._path("states"), sha256, size), slices

    def _segments(self, slices: Sequence[StateSlice]) -> list[SegmentRecord]:
        features, spans = self._features, self._spans
        if features is None or not len(features) == len(spans) == len(slices):
            raise ValueError(f"{len(slices)} states, {len(spans)} spans, features {getattr(features, 'shape', None)}")
        if self._pair_times and [span.pair_times_s for span in spans] != self._pair_times:
            raise ValueError("the states' frame pair times are not those of the spans")
        if self._frames is not None and self._frames.segment_count != len(spans):
            raise ValueError(f"frames of {self._frames.segment_count} segments, but {len(spans)} spans")
        return [
            SegmentRecord(self.video_id, self.generation, span, state)
            for span, state in zip(spans, slices, strict=True)
        ]


def _shape(state: SegmentState) -> StateSlice:
    """Where the state would lie is not known, only its shape."""
    levels, tokens, row_bytes = state.rows.shape
    return StateSlice(0, state.rows.nbytes, 0, levels, tokens, row_bytes, state.grid_thw)
