"""The workers of a run, wherever they are: calls that return futures. The simplest pool is one worker in this process,
whose futures are done when its calls return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

from flows.failure import Failure
from flows.result import IndexResult
from flows.snapshot import Snapshot
from flows.video.source_frames import Opened
from flows.video.worker import Job, Staged, Worker, WorkerLoad

Value = TypeVar("Value")
Outcome = Opened | Staged | Failure


class Metrics(Protocol):
    """The run as monitoring outside of it sees it."""

    def update(self, snapshot: Snapshot) -> None:
        """Publish the run's counts."""

    def settled(self, result: IndexResult, step: str | None) -> None:
        """Count one more video; ``step``: the one that failed."""


class Pool(Protocol):
    """Numbered workers, each with ``slots`` for videos under way."""

    slots: int
    metrics: Metrics | None

    @property
    def workers(self) -> Sequence[int]:
        """The numbers of the workers that can take a video now."""

    def watch(self, beat: Callable[[], None]) -> None:
        """Call ``beat`` while a call blocks the caller, if calls do."""

    def open(self, worker: int, job: Job) -> Future[Outcome]:
        """Begin to read the job's source."""

    def index(self, worker: int, job: Job) -> Future[Outcome]:
        """Stage a video: from ``job.kept``, or from what was opened under the same key."""

    def drop(self, worker: int, key: int) -> None:
        """Let go of what was opened."""

    def result(self, future: Future[Value]) -> Value:
        """The value of a future of this pool. WorkerDied, or the error that ends the run."""

    def loads(self) -> Sequence[WorkerLoad]:
        """What each worker is doing, as far as it is known now; this never waits."""

    def replace(self, worker: int) -> Future[None]:
        """Start a new worker under the number of a dead one, and do not wait for it: until the future is done, it is
        none of ``workers``. The future holds CheckpointError where the new one does not come up."""

    def stop(self) -> None:
        """End what is under way: its futures are done soon."""

    def close(self) -> None:
        """End the workers and all their processes."""


class InProcess:
    """One worker, one video at a time, in the caller's own thread: an interrupt reaches it as it is."""

    slots = 1
    workers = (0,)
    metrics: Metrics | None = None

    def __init__(self, make_worker: Callable[[], Worker]) -> None:
        """``make_worker`` is called for the first video: a run with nothing to do loads no model."""
        self._make_worker = make_worker
        self._made: Worker | None = None
        self._beat: Callable[[], None] = lambda: None

    def watch(self, beat: Callable[[], None]) -> None:
        self._beat = beat

    def open(self, worker: int, job: Job) -> Future[Outcome]:  # noqa: ARG002 - there is one
        return _done(self._worker.open(job, threads=None))

    def index(self, worker: int, job: Job) -> Future[Outcome]:  # noqa: ARG002
        return _done(self._worker.index(job))

    def drop(self, worker: int, key: int) -> None:  # noqa: ARG002
        self._worker.drop(key)

    def result(self, future: Future[Value]) -> Value:
        return future.result()

    def loads(self) -> Sequence[WorkerLoad]:
        return [self._made.load()] if self._made else []

    def replace(self, worker: int) -> Future[None]:  # noqa: ARG002
        """Never called: the worker cannot die before its caller does."""
        return _done(None)

    def stop(self) -> None:
        """Nothing is under way while the caller is here."""

    def close(self) -> None:
        if self._made:
            self._made.close()

    @property
    def _worker(self) -> Worker:
        if self._made is None:
            self._made = self._make_worker()
            self._made.beat = self._beat
        return self._made


def _done(value: Value) -> Future[Value]:
    future: Future[Value] = Future()
    future.set_result(value)
    return future
