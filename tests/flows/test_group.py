"""Short videos share a commit; none is visible in part, waits long, or is told to be done before it is committed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from flows.run import group
from flows.run.monitor import Monitor
from flows.video.pool import Outcome
from flows.video.worker import Job
from storage import Library, Writer, open_library
from storage.schemas import CATALOG
from storage.tables import Tables
from tempo_core.errors import NoSpace
from tests.support.scripted_pool import Scripted, opened, run
from tests.support.storage_harness import uris

SHORT = ["/a.mp4", "/b.mp4", "/c.mp4"]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(str(tmp_path), create=True)


@pytest.fixture
def writer(library: Library) -> Iterator[Writer]:
    with library.writer() as opened_writer:
        yield opened_writer


@pytest.fixture
def upserts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each upsert of the catalog."""
    counts: list[int] = []
    upsert = Tables.upsert

    def counted(tables: Tables, name: str, rows: Any) -> int:
        rows = list(rows)
        counts.extend([len(rows)] if name == CATALOG else [])
        return upsert(tables, name, rows)

    monkeypatch.setattr(Tables, "upsert", counted)
    return counts


@pytest.fixture
def pool(library: Library) -> Scripted:
    """One video after the other, as in one process."""

    scripted = Scripted(library, opened, opened, slots=1)
    scripted.on_index = lambda job, future: future.set_result(scripted.staged(job))
    return scripted


def test_short_videos_that_are_staged_one_soon_after_the_other_share_a_commit(
    pool: Scripted, writer: Writer, upserts: list[int]
) -> None:
    results = run(pool, writer, SHORT)
    assert [results[uri].status for uri in SHORT] == ["indexed"] * 3
    assert upserts == [3]
    assert pool.library.verify(grace_s=0) == []


def test_a_long_video_is_neither_waited_for_nor_does_it_wait(
    pool: Scripted, writer: Writer, upserts: list[int]
) -> None:
    run(pool, writer, ["/a.mp4", "/b.mp4", "/long.mp4", "/c.mp4"])
    assert pool.visible == [[], [], ["/a.mp4", "/b.mp4"], ["/a.mp4", "/b.mp4", "/long.mp4"]]
    assert upserts == [2, 1, 1]


def test_no_more_than_so_many_wait(
    pool: Scripted, writer: Writer, upserts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "MOST_WAITING", 2)
    run(pool, writer, SHORT)
    assert upserts == [2, 1]


def test_none_waits_for_long_while_others_are_under_way(
    library: Library, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "MOST_WAIT_S", 0.02)
    monkeypatch.setattr("flows.run.dispatch.BEAT_S", 0.01)
    slow: list[tuple[Job, Future[Outcome]]] = []

    def on_index(job: Job, future: Future[Outcome]) -> None:
        if job.uri == "/b.mp4":
            slow.append((job, future))
        else:
            future.set_result(scripted.staged(job))

    def loads() -> tuple[()]:
        if slow and uris(library) == ["/a.mp4"]:
            job, future = slow.pop()
            future.set_result(scripted.staged(job))
        return ()

    scripted = Scripted(library, opened, on_index)
    scripted.loads = loads  # type: ignore[method-assign]
    assert len(run(scripted, writer, ["/a.mp4", "/b.mp4"])) == 2, "it goes on only once the first is visible"


def test_a_copy_of_one_that_waits_is_committed_after_it(pool: Scripted, writer: Writer, upserts: list[int]) -> None:
    results = run(pool, writer, ["/a.mp4", "/a-copy.mp4", "/b.mp4"])
    assert [result.status for result in results.values()] == ["indexed", "duplicate", "indexed"]
    assert upserts == [2, 1]


def test_an_interrupt_commits_what_waits(library: Library, writer: Writer) -> None:
    def on_index(job: Job, future: Future[Outcome]) -> None:
        if job.uri == "/c.mp4":
            raise KeyboardInterrupt
        future.set_result(scripted.staged(job))

    scripted = Scripted(library, opened, on_index, slots=1)
    with pytest.raises(KeyboardInterrupt):
        run(scripted, writer, SHORT)
    assert uris(library) == ["/a.mp4", "/b.mp4"]
    assert library.verify(grace_s=0) == []


def test_a_disk_that_is_full_at_the_commit_ends_the_run_and_shows_none_of_them(
    pool: Scripted, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise NoSpace("no space left")

    monitor = Monitor(3, 1000)
    with monkeypatch.context() as night:
        night.setattr(Tables, "upsert", full)
        with pytest.raises(NoSpace):
            run(pool, writer, SHORT, monitor)
    assert pool.library.videos() == []
    assert monitor._settled == 0
    assert {result.status for result in run(pool, writer, SHORT).values()} == {"indexed"}
    assert pool.library.verify() == []
