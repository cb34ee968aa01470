"""A run over many videos in one process: each is fetched, indexed and committed before the next.

A failed video costs its own entry only. What is no video's fault (a full disk, a lost lease) ends the run; what was
committed stays.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from flows.plan import FETCH, MEMORY, Plan, Task
from flows.result import IndexResult, committed
from flows.stage import Indexer, Origin
from storage import Content, Source, Writer, fetch
from storage.sources import DEFAULT_MAX_BYTES
from tempo_core.errors import (
    CheckpointError,
    CorruptPart,
    LibraryError,
    SourceError,
    TempoError,
    VideoError,
)
from tempo_core.fingerprints import Fingerprints

log = logging.getLogger(__name__)


class RunProgress(Protocol):
    """Who watches a run."""

    def begin(self, source: Source) -> None:
        """A video is begun."""

    def frames(self, done: int, total: int) -> None:
        """Of the video that was begun last, so many sampled frames are encoded."""

    def end(self) -> None:
        """It is settled."""


@dataclass(frozen=True)
class Run:
    """One run under the writer's lease. ``until``: no video is begun after it."""

    indexer: Indexer
    writer: Writer
    prints: Fingerprints
    progress: RunProgress
    until: datetime | None = None
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "tempo-scratch")

    def results(self, plan: Plan) -> Iterator[IndexResult]:
        """What becomes of each video, as it is settled; tables are compacted at the end."""
        yield from plan.settled
        for task in plan.tasks:
            result = self._task(task)
            self.progress.end()
            yield result
        self.writer.optimize()

    def _task(self, task: Task) -> IndexResult:
        if self.until is not None and datetime.now(self.until.tzinfo) >= self.until:
            return IndexResult(task.source.uri, "pending", reason="the time was up")
        began = time.monotonic()
        self.progress.begin(task.source)
        try:
            return self._index(task, began)
        except Exception as error:
            if _ends_the_run(error):
                raise
            return self._failed(task.source, error, began)

    def _index(self, task: Task, began: float) -> IndexResult:
        """From what is kept of the content if that is known and sound, else from the file."""
        if task.known is not None:
            content = self.writer.find_content(task.known.video_id, self.prints)
            if content is not None and (result := self._kept(task, task.source, content, began)):
                return result
        return self._fetched(task, began)

    def _fetched(self, task: Task, began: float) -> IndexResult:
        """Commits only when the source has been let go: by then it is known not to have changed meanwhile."""
        with ExitStack() as unfinished:
            with fetch(task.source.uri, self.scratch, max_bytes=_most(task.source.uri, self.scratch)) as fetched:
                content = self.writer.find_content(fetched.sha256, self.prints)
                if content is not None and (result := self._kept(task, fetched.source, content, began)):
                    return result
                video = unfinished.enter_context(self.writer.begin(fetched.sha256, self.prints))
                facts = self.indexer.index_video(video, Origin(path=fetched.path), self.progress.frames)
            return committed("indexed", video.commit(fetched.source, facts), time.monotonic() - began)

    def _kept(self, task: Task, source: Source, content: Content, began: float) -> IndexResult | None:
        """A copy, or states or frames to go on from; None if those are damaged, so that the file is read again."""
        if content.committed is not None:
            same = task.before is not None and task.before.video_id == content.video_id
            record = self.writer.commit_copy(source, content)
            return committed("unchanged" if same else "duplicate", record, time.monotonic() - began)
        try:
            with self.writer.begin(content.video_id, self.prints) as video:
                origin = Origin(frames=content.frames, states=content.states)
                facts = self.indexer.index_video(video, origin, self.progress.frames)
                return committed("indexed", video.commit(source, facts), time.monotonic() - began)
        except CorruptPart as error:
            log.warning("%s: what is kept of it is damaged, so the file is read again: %s", source.uri, error)
            return None

    def _failed(self, source: Source, error: Exception, began: float) -> IndexResult:
        if not isinstance(error, TempoError):
            log.error("%s: unexpected error", source.uri, exc_info=error)
        reason = _reason(error)
        self.writer.record_failure(source, self.prints.features, reason, _stage(error))
        return IndexResult(source.uri, "failed", reason=reason, seconds=time.monotonic() - began)


def _most(uri: str, scratch: Path) -> int:
    """Bytes that a source may have: a remote one must fit into most of what is free, a local one stays where it is."""
    return int(0.9 * shutil.disk_usage(scratch.parent).free) if uri.startswith("s3://") else DEFAULT_MAX_BYTES


def _ends_the_run(error: Exception) -> bool:
    """No video's fault: the library or the model. A damaged part costs the videos that stand on it only."""
    return isinstance(error, (LibraryError, CheckpointError)) and not isinstance(error, CorruptPart)


def _stage(error: Exception) -> str:
    """Where it failed. A source that could not be fetched may be there again tomorrow (``plan.make_plan``)."""
    if isinstance(error, SourceError):
        return FETCH
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without loading torch
        return MEMORY
    return "decode" if isinstance(error, VideoError) else "encode"


def _reason(error: Exception) -> str:
    if isinstance(error, TempoError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}"
