"""What a night left undone is kept in the library, and is worth an order: nothing else depends on it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from storage import Library, open_library
from tempo_core.errors import LibraryBusy, UsageError
from tests.support.storage_harness import index
from tests.support.storage_killer import start

LEFT = ["/b.mp4", "s3://bucket/a\nb.mp4", "file:///a%FF.mp4"]


def leave(library: Library, uris: list[str]) -> None:
    with library.writer() as writer:
        writer.set_pending(uris)


def test_what_was_left_is_read_in_its_order_and_once(library: Library) -> None:
    assert library.pending() == []
    leave(library, [*LEFT, LEFT[0]])
    assert open_library(library.uri).pending() == LEFT
    leave(library, LEFT[:1])
    assert library.pending() == LEFT[:1]


def test_where_nothing_is_left_no_file_is_left(library: Library) -> None:
    before = sorted(file.path for file in library.store.files(""))
    leave(library, [])
    assert sorted(file.path for file in library.store.files("")) == before
    leave(library, LEFT)
    leave(library, [])
    assert library.pending() == []
    assert sorted(file.path for file in library.store.files("")) == before


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b'{"uris": "/a.mp4"}', b'{"uris": [1]}'])
def test_a_damaged_file_costs_the_order_only(library: Library, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    index(library, {"/a.mp4": 1})
    Path(library.uri, "pending.json").write_bytes(damage)
    assert library.pending() == []
    assert "pending.json is damaged" in caplog.text
    assert library.verify(grace_s=0) == []
    leave(library, LEFT)
    assert library.pending() == LEFT


def test_only_who_holds_the_lease_says_what_is_left(library: Library) -> None:
    leave(library, LEFT)
    with library.writer() as writer:
        pass
    with pytest.raises(LibraryBusy):
        writer.set_pending([])
    assert library.pending() == LEFT


def test_status_counts_it_and_neither_verify_nor_prune_minds_it(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    leave(library, LEFT)
    assert library.status().pending == len(LEFT)
    assert library.status().unreferenced_bytes == 0
    with library.writer() as writer:
        writer.prune(grace_s=0)
    assert library.verify(grace_s=0) == []
    assert library.pending() == LEFT


def test_it_alone_makes_no_folder_a_foreign_one(library: Library) -> None:
    leave(library, LEFT)
    Path(library.uri, "library.json").unlink()
    assert open_library(library.uri, create=True).pending() == LEFT
    Path(library.uri, "library.json").unlink()
    Path(library.uri, "notes.txt").touch()
    with pytest.raises(UsageError, match=r"notes\.txt"):
        open_library(library.uri, create=True)


def leave_and_die(uri: str, at: int) -> None:
    """Killed before file operation number ``at`` of remembering something else."""
    left, real = [at], {"fsync": os.fsync, "replace": os.replace}

    def counted(name: str) -> object:
        def operation(*arguments: object, **options: object) -> object:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real[name](*arguments, **options)  # type: ignore[operator]

        return operation

    with open_library(uri).writer() as writer:
        os.fsync, os.replace = counted("fsync"), counted("replace")  # type: ignore[assignment]
        writer.set_pending(["/other.mp4"])


@pytest.mark.slow
def test_a_kill_leaves_the_old_order_or_the_new_one(library: Library) -> None:
    leave(library, LEFT)
    exits = []
    for at in range(4):
        process = start(leave_and_die, library.uri, at)
        process.join(60)
        exits.append(process.exitcode)
        assert library.pending() == (LEFT if at < 2 else ["/other.mp4"]), f"killed before operation {at}"
    assert exits == [-signal.SIGKILL] * 3 + [0], "written, synced, renamed, its folder synced"
