"""What becomes of each video, decided and committed by the process that holds the lease."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from flows.failure import CHANGED, Failure, is_passing
from flows.result import IndexResult, committed
from flows.run.group import Waiting
from flows.run.plan import Task
from storage import Content, Source, StagedVideo, Writer
from tempo_core.fingerprints import Fingerprints

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settler:
    """Commits under ``fingerprints``, those of the run's model and index spec.

    ``features_model``: the name of the embedding model that makes the features, None: the model itself.
    """

    writer: Writer
    fingerprints: Fingerprints
    features_model: str | None = None

    def content(self, video_id: str) -> Content | None:
        """What the library has of a video that this run can use; None for nothing."""
        return self.writer.find_content(video_id, self.fingerprints)

    def indexed(self, group: Sequence[Waiting]) -> list[IndexResult]:
        """Make staged videos visible, in one commit."""
        model = self.features_model
        videos = [StagedVideo(one.staged.content, one.attempt.source, one.staged.facts, model) for one in group]
        records = self.writer.commit(*videos)
        return [committed("indexed", record, one.seconds) for one, record in zip(group, records, strict=True)]

    def copied(self, task: Task, source: Source, content: Content, seconds: float) -> IndexResult:
        """Commit another source of a video that the library has; or the same source, of which only the time is new."""
        same = task.before is not None and task.before.video_id == content.video_id
        return committed("unchanged" if same else "duplicate", self.writer.commit_copy(source, content), seconds)

    def failed(self, source: Source, failure: Failure, seconds: float) -> IndexResult:
        """Record why the source is not indexed; a file that is being written only waits for the next run."""
        if failure.step == CHANGED:
            return IndexResult(source.uri, "pending", reason=failure.reason, seconds=seconds)
        self.writer.record_failure(source, self.fingerprints.features, failure.reason, failure.step)
        again = is_passing(failure.step)
        return IndexResult(source.uri, "failed", reason=failure.reason, seconds=seconds, tried_again=again)

    def leave(self, pending: Sequence[str]) -> None:
        """Record the ``pending`` URIs, which go first in the next run."""
        self.writer.set_pending(pending)

    def compact(self) -> None:
        """Compact and index the tables."""
        self.writer.optimize()
