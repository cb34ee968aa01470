"""What becomes of each video, decided and committed by the one who holds the lease."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from flows.failure import CHANGED, Failure
from flows.result import IndexResult, committed
from flows.run.plan import Task
from flows.video.worker import Staged
from storage import Content, Source, Writer
from tempo_core.fingerprints import Fingerprints

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settler:
    """Commits under ``prints``, the fingerprints of the run's model and index spec."""

    writer: Writer
    prints: Fingerprints

    def content(self, video_id: str) -> Content | None:
        """What the library has of a content that this run can use."""
        return self.writer.find_content(video_id, self.prints)

    def indexed(self, source: Source, staged: Staged, seconds: float) -> IndexResult:
        """Make a staged video visible."""
        return committed("indexed", self.writer.commit(staged.content, source, staged.facts), seconds)

    def copied(self, task: Task, source: Source, content: Content, seconds: float) -> IndexResult:
        """A copy of what is committed; or the same file, whose time alone is new."""
        same = task.before is not None and task.before.video_id == content.video_id
        return committed("unchanged" if same else "duplicate", self.writer.commit_copy(source, content), seconds)

    def failed(self, source: Source, failure: Failure, seconds: float) -> IndexResult:
        """Remember why; a file that is being written only waits for the next run."""
        if failure.stage == CHANGED:
            return IndexResult(source.uri, "pending", reason=failure.reason, seconds=seconds)
        self.writer.record_failure(source, self.prints.features, failure.reason, failure.stage)
        return IndexResult(source.uri, "failed", reason=failure.reason, seconds=seconds)

    def discard(self, staged: Staged) -> None:
        """Remove what was staged and will not be committed."""
        self.writer.discard(staged.content)

    def end(self, pending: Sequence[str]) -> None:
        """Note what goes first next time, compact and index the tables."""
        self.writer.set_pending(pending)
        self.writer.optimize()
