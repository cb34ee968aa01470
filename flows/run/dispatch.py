"""One run over many videos: workers are kept busy, each video is committed as soon as it is staged.

One loop over futures, whoever the workers are. Only this process commits. A content is staged once: its copies wait
for it. A worker that dies costs a video its try: those that were under way are tried again one by one on an idle
worker, and a video that was alone when its process died, twice, is taken for the cause.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from typing import cast

from flows.failure import CRASH, KEPT, Failure
from flows.result import IndexResult
from flows.run.monitor import Monitor
from flows.run.plan import Plan, Task
from flows.run.settle import Settler
from flows.snapshot import Spent
from flows.video.pool import Job, Outcome, Pool
from flows.video.source_frames import Opened
from flows.video.worker import Staged
from storage import Content, Source
from tempo_core.errors import LibraryError, WorkerDied

log = logging.getLogger(__name__)

BEAT_S = 1.0
MOST_CRASHES = 2
STOP_WAIT_S = 20.0  # for the chunk under way and the removal of what was staged


@dataclass(frozen=True)
class _Turn:
    """A task and what its earlier tries taught: ``alone``: it was there when a worker died."""

    task: Task
    crashes: int = 0
    alone: bool = False
    from_source: bool = False


@dataclass
class _Flight:
    """A turn under way on a worker."""

    turn: _Turn
    worker: int
    job: Job
    began: float
    source: Source

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


@dataclass
class Dispatch:
    """``until``: no video is begun after it."""

    pool: Pool
    settler: Settler
    monitor: Monitor
    until: datetime | None = None
    _queue: deque[_Turn] = field(default_factory=deque)
    _flights: dict[Future[Outcome], _Flight] = field(default_factory=dict)
    _copies: dict[str, list[_Flight]] = field(default_factory=dict)  # by the video id that is being staged
    _begun: dict[str, int] = field(default_factory=dict)  # bytes by URI, also while a call blocks this process
    _keys: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.pool.watch(self.beat)
        if self.pool.metrics:
            self.monitor.watchers.append(self.pool.metrics.update)

    def results(self, plan: Plan) -> Iterator[IndexResult]:
        """What becomes of each video, as it is settled; tables are compacted at the end."""
        yield from plan.settled
        self._queue.extend(_Turn(task) for task in plan.tasks)
        pending: list[str] = []
        try:
            for result in self._run():
                pending += [result.uri] if result.status == "pending" else []
                yield result
        except BaseException:
            self._abandon()
            raise
        self.beat(last=True)
        self.settler.end([*pending, *plan.waiting])

    def _run(self) -> Iterator[IndexResult]:
        while True:
            yield from self._launch()
            if not self._flights:
                return
            done, _ = wait(self._flights, timeout=BEAT_S, return_when=FIRST_COMPLETED)
            for future in done:
                if future in self._flights:  # not given up meanwhile, with its worker
                    yield from self._advance(future)
            self.beat()

    def beat(self, last: bool = False) -> None:
        """Let the run be seen as it is now."""
        self.monitor.look(self.pool.loads(), waiting=len(self._queue), sources=self._begun, last=last)

    def _launch(self) -> Iterator[IndexResult]:
        """Fill the free slots."""
        while self._queue:
            if self.until is not None and datetime.now(self.until.tzinfo) >= self.until:
                turn = self._queue.popleft()
                yield IndexResult(turn.task.source.uri, "pending", reason="the time was up")
                continue
            worker = self._free_worker(self._queue[0])
            if worker is None:
                return
            yield from self._begin(self._queue.popleft(), worker)

    def _free_worker(self, turn: _Turn) -> int | None:
        """The least busy worker with room; one that is idle for a turn that goes alone."""
        under_way = {worker: self._on(worker) for worker in self.pool.workers}
        open_to_all = {worker: len(on) for worker, on in under_way.items() if not any(one.turn.alone for one in on)}
        worker = min(open_to_all, key=lambda worker: open_to_all[worker], default=None)
        most = 1 if turn.alone else self.pool.slots
        return worker if worker is not None and open_to_all[worker] < most else None

    def _on(self, worker: int) -> list[_Flight]:
        return [flight for flight in self._flights.values() if flight.worker == worker]

    def _begin(self, turn: _Turn, worker: int) -> Iterator[IndexResult]:
        """From what is kept of the content if that is known, else from the source."""
        source = turn.task.source
        self._begun[source.uri] = source.size
        flight = _Flight(turn, worker, Job(next(self._keys), source.uri), time.monotonic(), source)
        known = turn.task.known
        if known is not None and not turn.from_source and self.settler.content(known.video_id):
            yield from self._decide(flight, known.video_id)
        else:
            self._flights[self.pool.open(worker, flight.job)] = flight

    def _advance(self, future: Future[Outcome]) -> Iterator[IndexResult]:
        flight = self._flights[future]
        try:
            outcome = self.pool.result(future)
        except WorkerDied as error:
            yield from self._worker_died(flight, str(error))
            return
        del self._flights[future]
        if isinstance(outcome, Opened):
            flight.source = outcome.source
            self.monitor.spent(Spent(fetch_s=outcome.seconds))
            yield from self._decide(flight, outcome.sha256, opened=True)
        elif isinstance(outcome, Staged):
            self.monitor.spent(outcome.spent)
            yield from self._indexed(flight, outcome)
        else:
            yield from self._failed(flight, outcome)

    def _decide(self, flight: _Flight, video_id: str, opened: bool = False) -> Iterator[IndexResult]:
        """The content is known: copy it, wait for its twin, or stage it."""
        flight.job = replace(flight.job, video_id=video_id)
        content = self.settler.content(video_id)
        committed = content is not None and content.committed is not None
        usable = committed or (content is not None and not flight.turn.from_source)
        if opened and (usable or video_id in self._copies):
            self.pool.drop(flight.worker, flight.job.key)
        if video_id in self._copies:
            self._copies[video_id].append(flight)
        elif content is not None and committed:
            yield self._copied(flight, content)
        else:
            self._copies[video_id] = []
            flight.job = replace(flight.job, kept=content if usable else None)
            self._flights[self.pool.index(flight.worker, flight.job, self.settler.prints)] = flight

    def _indexed(self, flight: _Flight, staged: Staged) -> Iterator[IndexResult]:
        yield self._report(flight, self.settler.indexed(flight.source, staged, flight.seconds))
        content = self.settler.content(flight.job.video_id)
        assert content is not None
        for copy in self._copies.pop(flight.job.video_id):
            yield self._copied(copy, content)

    def _copied(self, flight: _Flight, content: Content) -> IndexResult:
        return self._report(flight, self.settler.copied(flight.turn.task, flight.source, content, flight.seconds))

    def _failed(self, flight: _Flight, failure: Failure) -> Iterator[IndexResult]:
        turn = flight.turn
        self._release(flight)
        if failure.stage == KEPT and not turn.from_source:
            log.warning("%s: what is kept of it is damaged, so it is read again: %s", flight.job.uri, failure.reason)
            self._queue.appendleft(replace(turn, from_source=True))
        elif failure.stage == CRASH and turn.crashes + 1 < MOST_CRASHES:
            log.warning("%s: %s; it is tried once more", flight.job.uri, failure.reason)
            self._queue.appendleft(replace(turn, crashes=turn.crashes + 1))
        else:
            result = self.settler.failed(turn.task.source, failure, flight.seconds)
            yield self._report(flight, result, failure.stage)

    def _worker_died(self, flight: _Flight, reason: str) -> Iterator[IndexResult]:
        """Whoever was alone on it is the cause; of several, each is tried again alone. What was staged before is not
        lost: its own future says so.
        """
        on_it = {future: one for future, one in self._flights.items() if one.worker == flight.worker}
        lost = {future: one for future, one in on_it.items() if not _has_staged(future)}
        for future in lost:
            del self._flights[future]
        log.warning("a worker died with %d videos under way; a new one is started: %s", len(lost), reason)
        self.pool.replace(flight.worker)
        for one in lost.values():
            if len(lost) == 1:
                one.turn = replace(one.turn, alone=True)
                yield from self._failed(one, Failure(CRASH, f"the process that worked on it died twice: {reason}"))
            else:
                self._release(one)
                self._queue.appendleft(replace(one.turn, alone=True))

    def _release(self, flight: _Flight) -> None:
        """Its copies are on their own again."""
        for copy in self._copies.pop(flight.job.video_id, []):
            self._queue.appendleft(copy.turn)

    def _report(self, flight: _Flight, result: IndexResult, stage: str | None = None) -> IndexResult:
        self._begun.pop(flight.turn.task.source.uri, None)
        self.monitor.settled(result, flight.turn.task.source.size)
        if self.pool.metrics:
            self.pool.metrics.settled(result, stage)
        return result

    def _abandon(self) -> None:
        """The run ends early: nothing that was staged and not committed stays."""
        self.pool.stop()
        done, _ = wait(self._flights, timeout=STOP_WAIT_S)
        with suppress(OSError, LibraryError):  # what ended the run is the one to tell; prune sweeps the rest
            for future in filter(_has_staged, done):
                self.settler.discard(cast(Staged, future.result()))


def _has_staged(future: Future[Outcome]) -> bool:
    return future.done() and future.exception() is None and isinstance(future.result(), Staged)
