"""A worker stages several videos at a time with one model: as an actor on a GPU's node, or in this process.

It hands back small records, and neither decides nor commits anything: between ``open`` and ``index``, the process that
holds the lease decides whether the video is to be staged at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.failure import Failure, attempt
from flows.snapshot import Spent, VideoProgress
from flows.video.encoder import Encoder
from flows.video.source_frames import DecodeSettings, Opened, SourceReading
from flows.video.stage import Indexer
from storage.records import Content, StagedContent, VideoFacts
from tempo_core.errors import LibraryError
from tempo_core.spec import IndexSpec, Keep

if TYPE_CHECKING:
    from storage import Library
    from tempo_core import Checkpoint

Decode = Callable[[str, DecodeSettings], SourceReading]


@dataclass(frozen=True)
class Job:
    """One video for one worker, which knows it by ``key``; small enough to send to another process.

    ``kept``: what the library has of ``video_id`` and is to be indexed from; None: index from the source.
    """

    key: int
    uri: str
    video_id: str = ""
    kept: Content | None = None


@dataclass(frozen=True)
class Staged:
    """A video that only waits for its commit."""

    content: StagedContent
    facts: VideoFacts
    spent: Spent


@dataclass(frozen=True)
class WorkerLoad:
    """What a worker is doing: seconds its model computed since it began, segments that wait for it, its videos."""

    busy_s: float
    queued_segment_count: int
    videos: tuple[VideoProgress, ...]


@dataclass
class Worker:
    """``decode`` begins to read a source; ``beat`` is called after each chunk of a video.

    ``open`` and ``index`` may be called from several threads, one video each.
    """

    library: Library
    checkpoint: Checkpoint
    spec: IndexSpec
    keep: Keep
    decode: Decode
    beat: Callable[[], None] = lambda: None
    _readings: dict[int, SourceReading] = field(default_factory=dict)
    _videos: dict[int, VideoProgress] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        _ = self.checkpoint.featurer  # what is wrong with an embedding model is no video's fault, and is said now
        self._encoder = Encoder(self.checkpoint, self.spec.state_dtype)
        self._fingerprints = self.checkpoint.fingerprints(self.spec)
        self._indexer = Indexer(self.library, self._encoder, self.checkpoint.id, self.spec)

    def open(self, job: Job, threads: int | None) -> Opened | Failure:
        """Begin to read the job's source, which then waits for ``index`` or ``drop``. ``threads``: ffmpeg's."""
        self._videos[job.key] = VideoProgress(job.uri, 0, 0, self.spec.segment_frames)
        settings = DecodeSettings(self.spec, self.checkpoint.geometry, threads)
        reading = attempt(job.uri, lambda: self.decode(job.uri, settings))
        if isinstance(reading, Failure):
            self.drop(job.key)
            return reading
        self._readings[job.key] = reading
        return reading.opened

    def index(self, job: Job) -> Staged | Failure:
        """Stage the video: from ``job.kept``, or from the source that was opened."""
        self._videos[job.key] = VideoProgress(job.uri, 0, 0, self.spec.segment_frames)
        try:
            return attempt(job.uri, lambda: self._stage(job))
        finally:
            self.drop(job.key)

    def drop(self, key: int) -> None:
        """Let go of a source that was opened."""
        self._videos.pop(key, None)
        if reading := self._readings.pop(key, None):
            reading.close()

    def load(self) -> WorkerLoad:
        videos = tuple(self._videos.copy().values())
        return WorkerLoad(self._encoder.busy_s, self._encoder.queued_segment_count, videos)

    def stop(self) -> None:
        """Let the videos under way end with an error at their next chunk; nothing of them stays."""
        self._stopping.set()
        for key in list(self._readings):
            with suppress(ValueError):  # it is being read: its own thread closes it
                self.drop(key)

    def close(self) -> None:
        for key in list(self._readings):
            self.drop(key)
        self._encoder.close()

    def _stage(self, job: Job) -> Staged:
        def progress(frame_count: int, total: int, video_s: float) -> None:
            self._videos[job.key] = VideoProgress(job.uri, frame_count, total, self.spec.segment_frames, video_s)
            self.beat()
            if self._stopping.is_set():
                raise LibraryError(f"{job.uri}: stopped before it was whole")

        origin = self._readings[job.key] if job.kept is None else job.kept
        with self.library.stage(job.video_id, self._fingerprints, self.keep) as video:
            facts, spent = self._indexer.index_video(video, origin, progress)
            return Staged(video.finish(), facts, spent)
