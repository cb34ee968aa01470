"""Workers, wherever they run, behind one face: calls that give futures. The simplest pool is one worker in this
process, whose calls are done when they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from flows.failure import Failure
from flows.result import IndexResult
from flows.snapshot import Snapshot
from flows.video.source_frames import Opened
from flows.video.worker import Staged, Worker, WorkerLoad
from storage import Content
from tempo_core.fingerprints import Fingerprints

Value = TypeVar("Value")
Outcome = Opened | Staged | Failure


@dataclass(frozen=True)
class Job:
    """One video for one worker: ``key`` names it there. ``kept``: index from what the library has of ``video_id``."""

    key: int
    uri: str
    video_id: str = ""
    kept: Content | None = None


class Metrics(Protocol):
    """Who counts a run for the outside."""

    def update(self, snapshot: Snapshot) -> None:
        """The run as it is now."""

    def settled(self, result: IndexResult, stage: str | None) -> None:
        """One video more; ``stage``: the one that failed."""


class Pool(Protocol):
    """Numbered workers, each with ``slots`` for videos under way."""

    slots: int
    metrics: Metrics | None  # where the run is counted for who scrapes it

    @property
    def workers(self) -> Sequence[int]:
        """The numbers of the workers there are."""

    def watch(self, beat: Callable[[], None]) -> None:
        """Call ``beat`` while a call blocks the caller, if calls do."""

    def open(self, worker: int, job: Job) -> Future[Outcome]:
        """Begin to read the job's source."""

    def index(self, worker: int, job: Job, prints: Fingerprints) -> Future[Outcome]:
        """Stage a video: what was opened before under the same key, or ``job.kept``."""

    def drop(self, worker: int, key: int) -> None:
        """Let go of what was opened."""

    def result(self, future: Future[Value]) -> Value:
        """What a future holds; WorkerDied, or the error that ends the run."""

    def loads(self) -> Sequence[WorkerLoad]:
        """What each worker is at, as far as known now; this never waits."""

    def replace(self, worker: int) -> None:
        """A new worker in the place of a dead one."""

    def stop(self) -> None:
        """End what is under way; their futures become done soon."""

    def close(self) -> None:
        """Let go of everything, processes included."""


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
        """After each chunk of a video."""
        self._beat = beat

    def open(self, worker: int, job: Job) -> Future[Outcome]:  # noqa: ARG002 - there is one
        """ffmpeg takes as many threads as it likes."""
        return _done(self._worker.open(job.key, job.uri, None))

    def index(self, worker: int, job: Job, prints: Fingerprints) -> Future[Outcome]:  # noqa: ARG002
        """While it lasts, the worker's ``beat`` is the only sign of life."""
        return _done(self._worker.index(job.key, job.uri, job.video_id, prints, job.kept))

    def drop(self, worker: int, key: int) -> None:  # noqa: ARG002
        """At once."""
        self._worker.drop(key)

    def result(self, future: Future[Value]) -> Value:
        """Errors were raised by the call itself."""
        return future.result()

    def loads(self) -> Sequence[WorkerLoad]:
        """Up to date."""
        return [self._made.load()] if self._made else []

    def replace(self, worker: int) -> None:
        """It cannot die before its caller does."""

    def stop(self) -> None:
        """Nothing is under way when the caller is here."""

    def close(self) -> None:
        """Ends ffmpeg and the encoder's thread."""
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
