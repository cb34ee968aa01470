"""Where a library is kept: part files of frames and states, LanceDB tables, one commit point. Knows no model."""

from __future__ import annotations

from storage.library import ALL_MODELS, Library, open_library
from storage.records import (
    Content,
    FailureRecord,
    ModelRecord,
    Part,
    SegmentHit,
    SegmentRecord,
    Source,
    StagedContent,
    StagedVideo,
    TimeRange,
    VideoFacts,
    VideoRecord,
    one_per_content,
)
from storage.sources.fetch import FetchedSource, fetch, stat_source
from storage.state_budget import DroppedStates
from storage.status import LibraryStatus, ModelStatus, Problem
from storage.video_writer import VideoWriter
from storage.writer import Writer

__all__ = [
    "ALL_MODELS",
    "Content",
    "DroppedStates",
    "FailureRecord",
    "FetchedSource",
    "Library",
    "LibraryStatus",
    "ModelRecord",
    "ModelStatus",
    "Part",
    "Problem",
    "SegmentHit",
    "SegmentRecord",
    "Source",
    "StagedContent",
    "StagedVideo",
    "TimeRange",
    "VideoFacts",
    "VideoRecord",
    "VideoWriter",
    "Writer",
    "fetch",
    "one_per_content",
    "open_library",
    "stat_source",
]
