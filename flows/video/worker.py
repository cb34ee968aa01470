"""A worker indexes several videos at a time with one model: as an actor on a GPU's node, or in this process.

It stages (decode -> encode -> store) and hands back small records. It decides nothing and commits nothing: whether a
content is wanted at all is asked between ``open`` and ``index``, of the one who holds the lease.
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
from flows.video.source_frames import DecodePlan, Item, Opened
from flows.video.stage import Indexer, Origin
from storage.records import Content, StagedContent, VideoFacts
from tempo_core.errors import LibraryError
from tempo_core.fingerprints import Fingerprints
from tempo_core.spec import IndexSpec

if TYPE_CHECKING:
    from collections.abc import Generator

    from storage import Library
    from tempo_core import Checkpoint

Decode = Callable[[str, DecodePlan], "Generator[Item, None, None]"]


@dataclass(frozen=True)
class Staged:
    """A video that only waits for its commit."""

    content: StagedContent
    facts: VideoFacts
    spent: Spent


@dataclass(frozen=True)
class WorkerLoad:
    """What a worker is at: seconds its model computed since it began, segments that wait for it, its videos."""

    busy_s: float
    queued_segments: int
    videos: tuple[VideoProgress, ...]


@dataclass
class Worker:
    """``decode``: how a source becomes a stream of frames; ``beat``: called after each chunk of a video.

    Its methods may be called from several threads, one video each.
    """

    library: Library
    checkpoint: Checkpoint
    spec: IndexSpec
    decode: Decode
    beat: Callable[[], None] = lambda: None
    _streams: dict[int, Generator[Item, None, None]] = field(default_factory=dict)
    _videos: dict[int, VideoProgress] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._encoder = Encoder(self.checkpoint, self.spec.state_dtype)
        self._indexer = Indexer(self.library, self._encoder, self.checkpoint.id, self.spec)

    def open(self, key: int, uri: str, threads: int | None) -> Opened | Failure:
        """Begin to read a source; what it is then waits for ``index`` or ``drop`` under ``key``."""
        self._videos[key] = VideoProgress(uri, 0, 0, self.spec.segment_frames)
        stream = self.decode(uri, DecodePlan(self.spec, self.checkpoint.geometry, threads))
        opened = attempt(uri, lambda: next(stream))
        if isinstance(opened, Opened):
            self._streams[key] = stream
            return opened
        self.drop(key)
        assert isinstance(opened, Failure), opened
        return opened

    def index(self, key: int, uri: str, video_id: str, prints: Fingerprints, kept: Content | None) -> Staged | Failure:
        """Stage the video: from what the library keeps of it, or from the stream that was opened."""
        self._videos[key] = VideoProgress(uri, 0, 0, self.spec.segment_frames)
        origin = Origin(self._streams.get(key)) if kept is None else Origin(frames=kept.frames, states=kept.states)
        try:
            return attempt(uri, lambda: self._stage(key, video_id, prints, origin))
        finally:
            self.drop(key)

    def drop(self, key: int) -> None:
        """Let go of a source that was opened."""
        self._videos.pop(key, None)
        if stream := self._streams.pop(key, None):
            stream.close()

    def load(self) -> WorkerLoad:
        """What it is at."""
        videos = tuple(self._videos.copy().values())
        return WorkerLoad(self._encoder.busy_s, self._encoder.queued_segments, videos)

    def stop(self) -> None:
        """Let the videos under way end with an error at their next chunk; nothing of them stays."""
        self._stopping.set()
        for key in list(self._streams):
            with suppress(ValueError):  # the stream is being read: its reader ends it
                self.drop(key)

    def close(self) -> None:
        """After the last video."""
        for key in list(self._streams):
            self.drop(key)
        self._encoder.close()

    def _stage(self, key: int, video_id: str, prints: Fingerprints, origin: Origin) -> Staged:
        uri = self._videos[key].uri

        def progress(frames: int, total: int, video_s: float) -> None:
            self._videos[key] = VideoProgress(uri, frames, total, self.spec.segment_frames, video_s)
            self.beat()
            if self._stopping.is_set():
                raise LibraryError(f"{uri}: stopped before it was whole")

        with self.library.stage(video_id, prints) as video:
            facts, spent = self._indexer.index_video(video, origin, progress)
            return Staged(video.finish(), facts, spent)
