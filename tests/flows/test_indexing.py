"""A run from request to report: when it looks for sources, when it holds the lease, and what it scans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.reporter import Reporter
from flows.request import IndexRequest
from flows.run.indexing import IndexRun
from storage import open_library
from storage.stores.local_store import LocalStore
from tempo_core.decoding import probe
from tests.support.tempo_cli import index, small_video, tempo


@pytest.fixture
def archive(archive: Path) -> Path:
    small_video(archive / "a.mp4")
    return archive


def indexed(archive: Path, library: Path, reporter: Reporter | None = None) -> dict[str, str]:
    """A run over ``archive``: file name to status."""
    request = IndexRequest(sources=[str(archive)], library=str(library), settle_s=0)
    results = IndexRun(request, reporter or Reporter()).run().results
    return {Path(result.uri).name: result.status for result in results}


class OnWaiting(Reporter):
    """Does ``act`` when the run says that it waits for another one."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def notice(self, text: str) -> None:
        if "waiting" in text:
            self._act()


def test_what_came_while_another_run_held_the_library_is_indexed_too(archive: Path, tmp_path: Path) -> None:
    writer = open_library(str(tmp_path / "library"), create=True).writer()

    def end_the_other_run() -> None:
        small_video(archive / "late.mp4", seconds=3)
        writer.close()

    statuses = indexed(archive, tmp_path / "library", OnWaiting(end_the_other_run))
    assert statuses == {"a.mp4": "indexed", "late.mp4": "indexed"}


def test_after_a_wait_the_library_s_default_is_taken_as_the_other_run_left_it(archive: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    index(library, archive)
    writer = open_library(str(library)).writer()

    def end_the_other_run() -> None:
        writer.close()
        index(library, archive, "--spec", "paper-int8")

    assert indexed(archive, library, OnWaiting(end_the_other_run)) == {"a.mp4": "unchanged"}
    assert [video.facts.spec.name for video in open_library(str(library)).videos()] == ["paper-int8"]


def count_scans(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None] = lambda: None) -> list[Any]:
    """The files that are scanned for an estimate, and ``before`` each of them."""
    scanned = list[Any]()

    def counting(path: Any) -> Any:
        before()
        scanned.append(path)
        return probe(path)

    monkeypatch.setattr("flows.run.estimate.probe", counting)
    return scanned


def test_no_file_is_scanned_for_room_where_room_has_no_end(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = count_scans(monkeypatch)
    assert indexed(archive, tmp_path / "disk") == {"a.mp4": "indexed"}
    assert scanned == [archive / "a.mp4"]
    monkeypatch.setattr(LocalStore, "free_bytes", lambda _: None)
    assert indexed(archive, tmp_path / "endless") == {"a.mp4": "indexed"}
    assert scanned == [archive / "a.mp4"]


def test_files_are_scanned_for_room_before_the_lease_is_taken(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = str(tmp_path / "library")
    scanned = count_scans(monkeypatch, before=lambda: open_library(library).writer().close())
    assert indexed(archive, tmp_path / "library") == {"a.mp4": "indexed"}
    assert len(scanned) == 1


def test_an_interrupted_index_says_what_is_kept_and_no_other_command_does(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    index(tmp_path / "library", archive)
    monkeypatch.setattr("serving.engine.Engine.search", interrupt)
    monkeypatch.setattr("flows.run.indexing.find_sources", interrupt)
    asked = tempo("search", "What?", "--library", tmp_path / "library", code=130)
    assert asked.err.splitlines()[-1] == "tempo: interrupted"
    stopped = tempo("index", archive, "--library", tmp_path / "library", code=130)
    assert stopped.err.splitlines()[-1] == "tempo: interrupted; what was finished is kept"
