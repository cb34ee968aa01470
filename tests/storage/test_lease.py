"""One writer at a time: others wait, then find the work done."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from storage import Library, open_library
from tempo_core.errors import LibraryBusy
from tests.support.storage_harness import contents, index, put
from tests.support.storage_killer import start

WANTED = {f"/{number}": number // 2 for number in range(8)}


def hold(uri: str, seconds: float) -> None:
    with open_library(uri).writer():
        Path(uri, "held").touch()
        time.sleep(seconds)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def index_and_tell(uri: str, told: str) -> None:
    done = index(open_library(uri, create=True), WANTED, wait_s=60)
    Path(told).write_text("\n".join(sorted(done.values())))


def test_a_second_writer_is_told_who_holds_the_library(library: Library) -> None:
    with (
        library.writer(),
        pytest.raises(LibraryBusy, match=rf"{library.uri} is being written by process {os.getpid()} on .*, since 20"),
    ):
        library.writer()
    with library.writer():
        pass


def test_readers_need_no_lease(library: Library) -> None:
    with library.writer() as writer:
        put(library, writer, "/a", 1)
        assert [record.uri for record in open_library(library.uri).videos()] == ["/a"]


def test_a_writer_whose_lease_was_given_back_cannot_commit(library: Library) -> None:
    with library.writer() as writer:
        pass
    with pytest.raises(LibraryBusy, match="given its lease back"):
        put(library, writer, "/a", 1)


@pytest.mark.slow
def test_the_lease_ends_with_its_process_however_that_ends(library: Library) -> None:
    process = start(hold, library.uri, 60)
    wait_for(Path(library.uri, "held"))
    with pytest.raises(LibraryBusy, match=f"process {process.pid} on"):
        library.writer(wait_s=0.2)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with library.writer(wait_s=30):
        pass


@pytest.mark.slow
def test_two_runs_at_once_neither_lose_nor_repeat_a_video(tmp_path: Path) -> None:
    """Even the library is made by both."""
    place, alone = str(tmp_path / "library"), open_library(str(tmp_path / "alone"), create=True)
    runs = [start(index_and_tell, place, str(tmp_path / name)) for name in ("first", "second")]
    for process in runs:
        process.join(120)
        assert process.exitcode == 0
    told = sorted((tmp_path / name).read_text() for name in ("first", "second"))
    assert told == ["\n".join(["duplicate"] * 4 + ["indexed"] * 4), "\n".join(["unchanged"] * 8)]
    index(alone, WANTED)
    assert contents(open_library(place)) == contents(alone)
    assert open_library(place).verify(grace_s=0) == []
