"""What a library keeps, as values. Times are seconds from the first frame, sizes are bytes, paths are relative.

Those of which a run holds one for each of a hundred thousand videos have slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tempo_core.fingerprints import Fingerprints
from tempo_core.sampling import SegmentSpan
from tempo_core.spec import IndexSpec

FeatureArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a video came from. ``modified`` is the mtime in nanoseconds, or an S3 ETag; size and it tell a change."""

    uri: str
    size: int
    modified: str


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What was learned of a video while it was indexed. ``start_s``: what a player adds to a time counted from 0."""

    duration_s: float
    width: int
    height: int
    model_id: str
    spec: IndexSpec
    start_s: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One part file: its path inside the library, the SHA-256 of its bytes (hex) and their number."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class StateSlice:
    """Where a segment's rows lie in the states part, and their shape: uint8 [levels, tokens, row_bytes]."""

    offset: int
    length: int
    checksum: int
    levels: int
    tokens: int
    row_bytes: int
    grid_thw: tuple[int, int, int]


@dataclass(frozen=True)
class SegmentRecord:
    """One committed segment: its times (``span``) and where its state is (``state``)."""

    video_id: str
    generation: str
    span: SegmentSpan
    state: StateSlice

    @property
    def index(self) -> int:
        """Position in the video, from 0."""
        return self.span.index

    @property
    def start_s(self) -> float:
        """Time of the segment's first sample."""
        return self.span.start_s

    @property
    def end_s(self) -> float:
        """Time of the sample after its last, or the video's end."""
        return self.span.end_s

    @property
    def tag_time_s(self) -> float:
        """Time that stands for the segment in the LLM's input."""
        return self.span.tag_time_s


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One row of the catalog: one source under one model. Copies of a content share ``video_id`` and generation.

    ``states_part`` None: only its frames are kept, from which its states can be computed again.
    """

    source: Source
    video_id: str
    generation: str
    fingerprints: Fingerprints
    facts: VideoFacts
    frames_part: Part
    states_part: Part | None
    segment_count: int
    frame_count: int
    indexed_at: float

    @property
    def uri(self) -> str:
        return self.source.uri

    @property
    def parts(self) -> tuple[Part, ...]:
        return present_parts(self.frames_part, self.states_part)

    @property
    def title(self) -> str:
        """The file's name."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True)
class TimeRange:
    """A range of a player's time, open where None."""

    from_s: float | None = None
    to_s: float | None = None

    def meets(self, video: VideoRecord, span: SegmentSpan) -> bool:
        """Whether a span of the video, in seconds from its first frame, lies in the range at least in part."""
        start_s = video.facts.start_s
        after = self.from_s is None or start_s + span.end_s > self.from_s
        return after and (self.to_s is None or start_s + span.start_s < self.to_s)


@dataclass(frozen=True)
class SegmentHit:
    """A candidate of a search; ``score`` is the cosine of the two features, 1 is best."""

    video: VideoRecord
    segment: SegmentRecord
    score: float


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """A source that could not be indexed under a model: skipped until it changes or a retry is asked for.

    ``step``: the step of work that failed, as the run names it; ``attempts``: how often it was tried.
    """

    source: Source
    fingerprint: str
    reason: str
    step: str
    attempts: int
    failed_at: float


@dataclass(frozen=True)
class Content:
    """What is committed of a content and can be used again; each a row of the catalog, or None.

    ``committed``: the same features fingerprint, so nothing is left to compute. ``states``, ``frames``: the same
    states or frames fingerprint under any model, whose part can be taken over.
    """

    video_id: str
    committed: VideoRecord | None
    states: VideoRecord | None
    frames: VideoRecord | None


@dataclass(frozen=True, eq=False)
class StagedContent:
    """Parts that are published, and what the segments' rows will say: only a commit makes a video of them.

    Picklable, so that an actor can hand it to the process that holds the lease. ``features``: float32 [segments, D].
    ``states_part`` None: only frames are kept.
    """

    video_id: str
    generation: str
    fingerprints: Fingerprints
    frames_part: Part
    states_part: Part | None
    segments: Sequence[SegmentRecord]
    features: FeatureArray
    frame_count: int


@dataclass(frozen=True, eq=False)
class StagedVideo:
    """A staged content with the source and the facts that it is to be committed with.

    ``features_model``: the embedding model that made its features, None: the facts' own model.
    """

    content: StagedContent
    source: Source
    facts: VideoFacts
    features_model: str | None = None


@dataclass(frozen=True)
class ModelRecord:
    """A model and index spec that videos were committed under. ``model_id``: its name at the last commit.

    ``features_model``: the name of the embedding model that made the features, None: the model itself.
    """

    fingerprints: Fingerprints
    model_id: str
    spec: IndexSpec
    features_model: str | None = None

    @property
    def features(self) -> str:
        """The fingerprint that stands for the model."""
        return self.fingerprints.features


def present_parts(frames: Part, states: Part | None) -> tuple[Part, ...]:
    """The part files of a video: of frames, and of states unless only frames are kept."""
    return (frames,) if states is None else (frames, states)


def one_per_content(records: Sequence[VideoRecord]) -> list[VideoRecord]:
    """The first record of each content and model: copies are left out."""
    first: dict[tuple[str, str], VideoRecord] = {}
    for record in records:
        first.setdefault((record.video_id, record.fingerprints.features), record)
    return list(first.values())
