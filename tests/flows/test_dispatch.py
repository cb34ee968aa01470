"""The loop that decides, over a real library: what is staged is committed once, whatever becomes of its worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from flows.failure import DECODE, KEPT, Failure
from flows.run.monitor import Monitor
from flows.snapshot import Snapshot, VideoProgress
from flows.video.pool import Outcome
from flows.video.worker import Job, WorkerLoad
from storage import Library, Writer, open_library
from tempo_core.errors import CheckpointError, WorkerDied
from tests.support.scripted_pool import SEEDS, Scripted, opened, run
from tests.support.storage_harness import put


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(str(tmp_path), create=True)


@pytest.fixture
def writer(library: Library) -> Iterator[Writer]:
    with library.writer() as opened_writer:
        yield opened_writer


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
