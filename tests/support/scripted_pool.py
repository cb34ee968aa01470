"""Workers of a run that do as a test tells them: their ends must fall between two given steps, which real processes do
not let us choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from flows.result import IndexResult
from flows.run.dispatch import Dispatch
from flows.run.monitor import Monitor
from flows.run.plan import Plan, Task
from flows.run.settle import Settler
from flows.snapshot import Spent
from flows.video.pool import Metrics, Outcome
from flows.video.source_frames import Opened
from flows.video.worker import Job, Staged, WorkerLoad
from storage import Library, Source, Writer
from tests.support.storage_harness import PRINTS, facts_of, fill, source_of, tiny_video, uris

SEEDS = {"/a.mp4": 1, "/b.mp4": 2, "/c.mp4": 3, "/a-copy.mp4": 1, "/long.mp4": 4}
LONG_BYTES = 1 << 30


def source_at(uri: str) -> Source:
    """The source at ``uri``: small, but for the long one's."""
    source = source_of(uri, SEEDS[uri])
    return replace(source, size=LONG_BYTES) if uri == "/long.mp4" else source


def done(value: Any) -> Future[Any]:
    """A future with that value."""
    future: Future[Any] = Future()
    future.set_result(value)
    return future


@dataclass
class Scripted:
    """Workers that do as they are told: ``on_open`` and ``on_index`` fill the future of a call, or do not.

    ``visible``: the sources that were in the library as each video was begun to be indexed.
    """

    library: Library
    on_open: Callable[[Job, Future[Outcome]], None]
    on_index: Callable[[Job, Future[Outcome]], None]
    on_replace: Callable[[int], Future[None]] = lambda _: done(None)
    slots: int = 2
    workers: Sequence[int] = (0,)
    metrics: Metrics | None = None
    calls: list[str] = field(default_factory=list)
    visible: list[list[str]] = field(default_factory=list)
    beat: Callable[[], None] = lambda: None

    def watch(self, beat: Callable[[], None]) -> None:
        self.beat = beat

    def open(self, worker: int, job: Job) -> Future[Outcome]:
        return self._call("open", job, self.on_open)

    def index(self, worker: int, job: Job) -> Future[Outcome]:
        self.visible.append(uris(self.library))
        return self._call("index", job, self.on_index)

    def drop(self, worker: int, key: int) -> None:
        self.calls.append(f"drop {key}")

    def result(self, future: Future[Any]) -> Any:
        return future.result()

    def loads(self) -> Sequence[WorkerLoad]:
        return ()

    def replace(self, worker: int) -> Future[None]:
        self.calls.append(f"replace {worker}")
        return self.on_replace(worker)

    def stop(self) -> None:
        """Nothing is under way in a script."""

    def close(self) -> None:
        """As above."""

    def staged(self, job: Job) -> Staged:
        video = tiny_video(SEEDS[job.uri])
        with self.library.stage(video.video_id, PRINTS) as writing:
            fill(writing, video)
            return Staged(writing.finish(), facts_of(video), Spent())

    def _call(self, verb: str, job: Job, script: Callable[[Job, Future[Outcome]], None]) -> Future[Outcome]:
        self.calls.append(f"{verb} {job.uri}")
        future: Future[Outcome] = Future()
        script(job, future)
        return future


def opened(job: Job, future: Future[Outcome]) -> None:
    """The source is there."""
    future.set_result(Opened(source_at(job.uri), tiny_video(SEEDS[job.uri]).video_id, 0.0))


def run(pool: Scripted, writer: Writer, uris: Sequence[str], monitor: Monitor | None = None) -> dict[str, IndexResult]:
    """Index the sources of ``SEEDS`` at ``uris``; the results by URI."""
    plan = Plan((), tuple(Task(source_at(uri)) for uri in uris))
    dispatch = Dispatch(pool, Settler(writer, PRINTS), monitor or Monitor(len(uris), 2003))
    return {result.uri: result for result in dispatch.results(plan)}
