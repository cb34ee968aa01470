"""One run over many videos: workers are kept busy, and what they staged is committed.

One loop over futures, wherever the workers are; only this process commits. Each task is an ``Attempt``:

    queued --> opening --> decided --+--> copied                 the library has its video
                                     +--> staging --> in the group of the next commit --> indexed
                                     +--> waiting --> copied     once the attempt that stages its video is committed
    opening, staging --> failed      or queued again: a process died, or what the library had is damaged
    waiting          --> queued      the attempt that staged its video failed

Short videos wait a moment in the group (``Group``), which one upsert commits; a video is done when that is through.

When a worker dies with several videos, it is not known which one caused it: each is tried again alone on an idle
worker. A video that was alone when its process died is tried once more, and then recorded as the cause.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from typing import Any, cast

from flows.failure import CRASH, KEPT, Failure
from flows.result import IndexResult
from flows.run.attempt import Attempt
from flows.run.group import Group, is_short
from flows.run.monitor import Monitor
from flows.run.plan import Plan
from flows.run.settle import Settler
from flows.snapshot import Spent
from flows.video.pool import Outcome, Pool
from flows.video.source_frames import Opened
from flows.video.worker import Staged
from storage import Content
from tempo_core.errors import LibraryError, WorkerDied

log = logging.getLogger(__name__)

BEAT_S = 1.0
MOST_CRASHES = 2
STOP_WAIT_S = 20.0  # for the chunk under way and the removal of what was staged


@dataclass
class Dispatch:
    """``until``: no video is begun after it."""

    pool: Pool
    settler: Settler
    monitor: Monitor
    until: datetime | None = None
    _queue: deque[Attempt] = field(default_factory=deque)
    _running: dict[Future[Outcome], Attempt] = field(default_factory=dict)
    _staging: set[str] = field(default_factory=set)  # video ids, until they are committed
    _group: Group = field(default_factory=Group)
    _waiting: defaultdict[str, list[Attempt]] = field(default_factory=lambda: defaultdict(list))  # by video id
    _starting: set[Future[None]] = field(default_factory=set)  # successors of dead workers
    _begun: dict[str, int] = field(default_factory=dict)  # bytes by URI, also while a call blocks this process
    _keys: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.pool.watch(self.beat)
        if self.pool.metrics:
            self.monitor.watchers.append(self.pool.metrics.update)

    def results(self, plan: Plan) -> Iterator[IndexResult]:
        """The result of each video, as it is settled; at the end, tables are compacted."""
        yield from plan.settled
        self._queue.extend(Attempt(task) for task in plan.tasks)
        pending: list[str] = []
        try:
            for result in self._run():
                pending += [result.uri] if result.status == "pending" else []
                yield result
        except BaseException:
            self._abandon()
            raise
        self.beat(last=True)
        self.settler.leave([*pending, *plan.waiting])
        if plan.tasks:
            self.settler.compact()

    def _run(self) -> Iterator[IndexResult]:
        while True:
            yield from self._launch()
            if not self._running and not self._queue:
                yield from self._commit()
                return
            futures: list[Future[Any]] = [*self._running, *self._starting]
            done, _ = wait(futures, timeout=BEAT_S, return_when=FIRST_COMPLETED)
            for future in done:
                if future in self._starting:
                    self._starting.remove(future)
                    self.pool.result(future)
                elif future in self._running:  # not given up meanwhile, with its worker
                    yield from self._advance(future)
            if self._group.is_due:
                yield from self._commit()
            self.beat()

    def beat(self, last: bool = False) -> None:
        """Show the run as it is now."""
        self.monitor.look(self.pool.loads(), waiting=len(self._queue), sources=self._begun, last=last)

    def _launch(self) -> Iterator[IndexResult]:
        """Fill the free slots."""
        while self._queue:
            if self.until is not None and datetime.now(self.until.tzinfo) >= self.until:
                attempt = self._queue.popleft()
                yield IndexResult(attempt.task.source.uri, "pending", reason="the time was up")
                continue
            worker = self._free_worker(self._queue[0])
            if worker is None:
                return
            yield from self._begin(self._queue.popleft(), worker)

    def _free_worker(self, attempt: Attempt) -> int | None:
        """The least busy worker with a free slot; for an attempt that goes alone, one that is idle."""
        under_way = {worker: self._on(worker) for worker in self.pool.workers}
        loads = {worker: len(others) for worker, others in under_way.items() if not any(one.alone for one in others)}
        worker = min(loads, key=lambda worker: loads[worker], default=None)
        most = 1 if attempt.alone else self.pool.slots
        return worker if worker is not None and loads[worker] < most else None

    def _on(self, worker: int) -> list[Attempt]:
        return [attempt for attempt in self._running.values() if attempt.worker == worker]

    def _begin(self, attempt: Attempt, worker: int) -> Iterator[IndexResult]:
        """Open the source, unless the library has something of its video that can be used."""
        source, known = attempt.task.source, attempt.task.known
        if not is_short(source):  # in one process, nothing else is done until it is staged
            yield from self._commit()
        self._begun[source.uri] = source.size
        attempt.begin(worker, next(self._keys))
        if known is not None and not attempt.from_source and self.settler.content(known.video_id):
            yield from self._decide(attempt, known.video_id)
        else:
            self._running[self.pool.open(worker, attempt.job)] = attempt

    def _advance(self, future: Future[Outcome]) -> Iterator[IndexResult]:
        attempt = self._running[future]
        try:
            outcome = self.pool.result(future)
        except WorkerDied as error:
            yield from self._worker_died(attempt, str(error))
            return
        del self._running[future]
        if isinstance(outcome, Opened):
            attempt.source = outcome.source
            self.monitor.spent(Spent(fetch_s=outcome.seconds))
            yield from self._decide(attempt, outcome.sha256, opened=True)
        elif isinstance(outcome, Staged):
            self.monitor.spent(outcome.spent)
            self._group.add(attempt, outcome)
        else:
            yield from self._failed(attempt, outcome)

    def _decide(self, attempt: Attempt, video_id: str, opened: bool = False) -> Iterator[IndexResult]:
        """Copy the video that is committed, wait for the attempt that stages it, or stage it."""
        content = self.settler.content(video_id)
        is_committed = content is not None and content.committed is not None
        kept = None if attempt.from_source else content
        attempt.job = replace(attempt.job, video_id=video_id, kept=kept)
        if opened and (is_committed or kept is not None or video_id in self._staging):
            self.pool.drop(attempt.worker, attempt.job.key)
        if video_id in self._staging:
            self._waiting[video_id].append(attempt)
        elif content is not None and is_committed:
            yield self._copied(attempt, content)
        else:
            self._staging.add(video_id)
            self._running[self.pool.index(attempt.worker, attempt.job)] = attempt

    def _commit(self) -> Iterator[IndexResult]:
        """Commit the group, then the copies that waited for its videos."""
        group = self._group.take()
        results = self.settler.indexed(group) if group else []
        for waiting, result in zip(group, results, strict=True):
            yield self._report(waiting.attempt, result)
            content = self.settler.content(waiting.attempt.job.video_id)
            assert content is not None
            for copy in self._staged_no_more(waiting.attempt):
                yield self._copied(copy, content)

    def _copied(self, attempt: Attempt, content: Content) -> IndexResult:
        return self._report(attempt, self.settler.copied(attempt.task, attempt.source, content, attempt.seconds))

    def _failed(self, attempt: Attempt, failure: Failure) -> Iterator[IndexResult]:
        self._queue.extendleft(self._staged_no_more(attempt))
        uri, source = attempt.job.uri, attempt.task.source
        if failure.step == KEPT and not attempt.from_source:
            log.warning("%s: what is kept of it is damaged, so it is read again: %s", uri, failure.reason)
            attempt.from_source = True
            self._queue.appendleft(attempt)
        elif failure.step == CRASH and attempt.crashes + 1 < MOST_CRASHES:
            log.warning("%s: %s; it is tried once more", uri, failure.reason)
            attempt.crashes += 1
            self._queue.appendleft(attempt)
        else:
            yield self._report(attempt, self.settler.failed(source, failure, attempt.seconds), failure.step)

    def _worker_died(self, attempt: Attempt, reason: str) -> Iterator[IndexResult]:
        """Start another worker; try again what this one had not staged yet."""
        on_it = [future for future, other in self._running.items() if other.worker == attempt.worker]
        lost = [self._running.pop(future) for future in on_it if not _has_staged(future)]
        log.warning("a worker died with %d videos under way; a new one is started: %s", len(lost), reason)
        self._starting.add(self.pool.replace(attempt.worker))
        for other in lost:
            other.alone = True
        if len(lost) == 1:
            died = "died twice" if attempt.crashes else "died"
            yield from self._failed(attempt, Failure(CRASH, f"the process that worked on it {died}: {reason}"))
            return
        for other in lost:
            self._queue.extendleft([*self._staged_no_more(other), other])

    def _staged_no_more(self, attempt: Attempt) -> list[Attempt]:
        """End this attempt's staging, if it was staging; returns the attempts that waited for it."""
        self._staging.discard(attempt.job.video_id)
        return self._waiting.pop(attempt.job.video_id, [])

    def _report(self, attempt: Attempt, result: IndexResult, step: str | None = None) -> IndexResult:
        self._begun.pop(attempt.task.source.uri, None)
        self.monitor.settled(result, attempt.task.source.size)
        if self.pool.metrics:
            self.pool.metrics.settled(result, step)
        return result

    def _abandon(self) -> None:
        """The run ends early: what is staged is committed, unless a commit is what failed."""
        self.pool.stop()
        done, _ = wait(self._running, timeout=STOP_WAIT_S)
        for future in filter(_has_staged, done):
            self._group.add(self._running[future], cast(Staged, future.result()))
        with suppress(OSError, LibraryError):  # the user is to see what ended the run; prune sweeps the rest
            if group := self._group.take():
                self.settler.indexed(group)


def _has_staged(future: Future[Outcome]) -> bool:
    return future.done() and future.exception() is None and isinstance(future.result(), Staged)
