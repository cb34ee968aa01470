"""The loop that decides, over a real library: what is staged is committed once, whatever becomes of its worker.

The workers are scripted: their ends must fall between two given steps, which real processes do not let us choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from flows.failure import DECODE, KEPT, Failure
from flows.result import IndexResult
from flows.run.dispatch import Dispatch
from flows.run.monitor import Monitor
from flows.run.plan import Plan, Task
from flows.run.settle import Settler
from flows.snapshot import Snapshot, Spent, VideoProgress
from flows.video.pool import Metrics, Outcome
from flows.video.source_frames import Opened
from flows.video.worker import Job, Staged, WorkerLoad
from storage import Library, Writer, open_library
from tempo_core.errors import CheckpointError, WorkerDied
from tests.support.storage_harness import PRINTS, facts_of, fill, put, source_of, tiny_video

SEEDS = {"/a.mp4": 1, "/b.mp4": 2, "/c.mp4": 3, "/a-copy.mp4": 1}


def done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


@dataclass
class Scripted:
    """Workers that do as they are told: ``on_open`` and ``on_index`` fill the future of a call, or do not."""

    library: Library
    on_open: Callable[[Job, Future[Outcome]], None]
    on_index: Callable[[Job, Future[Outcome]], None]
    on_replace: Callable[[int], Future[None]] = lambda _: done(None)
    slots: int = 2
    workers: Sequence[int] = (0,)
    metrics: Metrics | None = None
    calls: list[str] = field(default_factory=list)
    beat: Callable[[], None] = lambda: None

    def watch(self, beat: Callable[[], None]) -> None:
        self.beat = beat

    def open(self, worker: int, job: Job) -> Future[Outcome]:
        return self._call("open", job, self.on_open)

    def index(self, worker: int, job: Job) -> Future[Outcome]:
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
    seed = SEEDS[job.uri]
    future.set_result(Opened(source_of(job.uri, seed), tiny_video(seed).video_id, 0.0))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(str(tmp_path), create=True)


@pytest.fixture
def writer(library: Library) -> Iterator[Writer]:
    with library.writer() as opened_writer:
        yield opened_writer


def run(pool: Scripted, writer: Writer, uris: Sequence[str], monitor: Monitor | None = None) -> dict[str, IndexResult]:
    plan = Plan((), tuple(Task(source_of(uri, SEEDS[uri])) for uri in uris))
    dispatch = Dispatch(pool, Settler(writer, PRINTS), monitor or Monitor(len(uris), 2003))
    return {result.uri: result for result in dispatch.results(plan)}


def test_what_was_staged_before_its_worker_died_is_committed_and_not_done_again(
    library: Library, writer: Writer
) -> None:
    waiting: list[Callable[[], None]] = []

    def on_index(job: Job, future: Future[Outcome]) -> None:
        if job.uri == "/a.mp4" and pool.calls.count("index /a.mp4") == 1:
            waiting.append(lambda: future.set_result(pool.staged(job)))
        elif "replace 0" in pool.calls:
            future.set_result(pool.staged(job))
        else:
            future.set_exception(WorkerDied("killed"))

    pool = Scripted(library, opened, on_index)
    ask = pool.result

    def result(future: Future[Any]) -> Any:
        if future.exception() is not None:
            waiting.pop()()  # the other one's answer arrives just before
        return ask(future)

    pool.result = result  # type: ignore[method-assign]
    results = run(pool, writer, ["/a.mp4", "/b.mp4"])
    assert {result.status for result in results.values()} == {"indexed"}
    assert pool.calls.count("index /a.mp4") == 1
    assert library.verify() == []
    assert library.verify(grace_s=0) == []  # nothing staged is left


def test_a_copy_waits_for_the_attempt_that_stages_its_video(library: Library, writer: Writer) -> None:
    pool = Scripted(library, opened, lambda job, future: future.set_result(pool.staged(job)))
    results = run(pool, writer, ["/a.mp4", "/a-copy.mp4"])
    assert sorted(result.status for result in results.values()) == ["duplicate", "indexed"]
    assert sum(call.startswith("index") for call in pool.calls) == 1
    assert sum(call.startswith("drop") for call in pool.calls) == 1


def test_a_copy_of_a_video_that_failed_is_tried_by_itself(library: Library, writer: Writer) -> None:
    def on_index(job: Job, future: Future[Outcome]) -> None:
        is_first = sum(call.startswith("index") for call in pool.calls) == 1
        future.set_result(Failure(DECODE, "broken") if is_first else pool.staged(job))

    pool = Scripted(library, opened, on_index)
    results = run(pool, writer, ["/a.mp4", "/a-copy.mp4"])
    assert sorted(result.status for result in results.values()) == ["failed", "indexed"]


def dies_at_first(pool: Scripted, uri: str) -> Callable[[Job, Future[Outcome]], None]:
    """The worker of ``uri`` dies the first time that it is indexed; everything else is staged."""

    def on_index(job: Job, future: Future[Outcome]) -> None:
        if job.uri == uri and pool.calls.count(f"index {uri}") == 1:
            future.set_exception(WorkerDied("killed"))
        else:
            future.set_result(pool.staged(job))

    return on_index


def test_of_several_that_were_under_way_the_one_that_kills_its_worker_is_found_out(
    library: Library, writer: Writer
) -> None:
    def on_index(job: Job, future: Future[Outcome]) -> None:
        if job.uri == "/b.mp4":
            future.set_exception(WorkerDied("killed"))
        elif "replace 0" in pool.calls:
            future.set_result(pool.staged(job))

    pool = Scripted(library, opened, on_index)
    results = run(pool, writer, ["/a.mp4", "/b.mp4", "/c.mp4"])
    assert [results[uri].status for uri in ("/a.mp4", "/b.mp4", "/c.mp4")] == ["indexed", "failed", "indexed"]
    assert results["/b.mp4"].reason == "the process that worked on it died twice: killed"
    assert pool.calls.count("index /a.mp4") == 2  # it was under way the first time
    assert pool.calls.count("index /b.mp4") == 3  # once with another, twice alone


def test_the_first_death_is_reported_as_one_and_only_the_last_as_two(
    library: Library, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Scripted(library, opened, lambda _, future: future.set_exception(WorkerDied("killed")))
    reason = run(pool, writer, ["/a.mp4"])["/a.mp4"].reason
    assert reason == "the process that worked on it died twice: killed"
    assert "the process that worked on it died: killed; it is tried once more" in caplog.text
    assert "twice" not in caplog.text


def test_other_workers_go_on_while_the_successor_of_a_dead_one_loads_its_model(
    library: Library, writer: Writer
) -> None:
    pool = Scripted(library, opened, opened, slots=1, workers=(0, 1))
    pool.on_index = dies_at_first(pool, "/a.mp4")

    def on_replace(worker: int) -> Future[None]:
        pool.workers = (1,)
        return Future()  # it is never ready

    pool.on_replace = on_replace
    results = run(pool, writer, ["/a.mp4", "/b.mp4", "/c.mp4"])
    assert {uri: result.status for uri, result in results.items()} == dict.fromkeys(results, "indexed")
    assert len(results) == 3


def test_a_run_waits_for_the_successor_of_its_only_worker(
    library: Library, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.run.dispatch.BEAT_S", 0.01)
    starting: Future[None] = Future()
    beats = count()

    def on_replace(worker: int) -> Future[None]:
        pool.workers = ()
        pool.loads = loads  # type: ignore[method-assign]
        return starting

    def loads() -> Sequence[WorkerLoad]:
        if next(beats) == 1:
            pool.workers = (0,)
            starting.set_result(None)
        return ()

    pool = Scripted(library, opened, opened, on_replace=on_replace)
    pool.on_index = dies_at_first(pool, "/a.mp4")
    assert run(pool, writer, ["/a.mp4"])["/a.mp4"].status == "indexed"


def test_a_successor_that_does_not_come_up_ends_the_run(library: Library, writer: Writer) -> None:
    def on_replace(worker: int) -> Future[None]:
        pool.workers = ()
        starting: Future[None] = Future()
        starting.set_exception(CheckpointError("no memory"))
        return starting

    pool = Scripted(library, opened, opened, on_replace=on_replace)
    pool.on_index = dies_at_first(pool, "/a.mp4")
    with pytest.raises(CheckpointError, match="no memory"):
        run(pool, writer, ["/a.mp4"])


def test_a_source_that_was_opened_in_vain_is_let_go_of(library: Library, writer: Writer) -> None:
    """Read again because what was kept of it is damaged, while its twin was committed: its decoder holds a CPU."""

    def on_open(job: Job, future: Future[Outcome]) -> None:
        if "index /a.mp4" in pool.calls:
            put(library, writer, "/twin.mp4", SEEDS["/a.mp4"])
        opened(job, future)

    pool = Scripted(library, on_open, lambda _, future: future.set_result(Failure(KEPT, "damaged")))
    assert run(pool, writer, ["/a.mp4"])["/a.mp4"].status == "duplicate"
    assert pool.calls == ["open /a.mp4", "index /a.mp4", "open /a.mp4", "drop 1"]


def test_time_left_is_known_while_a_call_blocks_the_run(library: Library, writer: Writer) -> None:
    """As in one process, where a video is indexed within the call."""
    seen: list[Snapshot] = []

    def on_index(job: Job, future: Future[Outcome]) -> None:
        half = VideoProgress(job.uri, 5, 10, 4, 2.5)
        pool.loads = lambda: [WorkerLoad(0.0, 0, (half,))]  # type: ignore[method-assign]
        pool.beat()
        future.set_result(pool.staged(job))

    pool = Scripted(library, opened, on_index)
    run(pool, writer, ["/a.mp4"], Monitor(1, 1001, [seen.append]))
    assert seen[0].source_bytes == 500
