"""Scratch folders of many at once, on a machine of several users: nobody sweeps or uses what is not his."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.stores.scratch import drop_scratch, make_scratch


def leave(base: Path, name: str = "tempo-scratch-left") -> Path:
    """A folder as a killed process leaves it: its lock is free."""
    folder = base / name
    folder.mkdir(mode=0o700)
    (folder / ".lock").touch()
    (folder / "video.mp4").touch()
    return folder


def test_a_folder_that_is_being_made_is_not_swept_by_another_that_begins(tmp_path: Path) -> None:
    """Eight decoders that begin together lost a few folders of a thousand."""

    def made_and_kept(_: int) -> bool:
        folder, lock = make_scratch(tmp_path)
        kept = (folder / ".lock").exists()
        drop_scratch(folder, lock)
        return kept

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(made_and_kept, range(1500)))
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_can_look_into_it(tmp_path: Path) -> None:
    folder, lock = make_scratch(tmp_path)
    status = folder.lstat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, os.getuid())
    drop_scratch(folder, lock)


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    leave(tmp_path)
    drop_scratch(*make_scratch(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_another_users_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = leave(tmp_path)
    monkeypatch.setattr("storage.stores.scratch.os.getuid", lambda: other.stat().st_uid + 1)
    drop_scratch(*make_scratch(tmp_path))
    assert sorted(path.name for path in other.iterdir()) == [".lock", "video.mp4"]


def test_neither_a_link_nor_a_file_of_such_a_name_is_followed(tmp_path: Path) -> None:
    target = leave(tmp_path, "elsewhere")
    link, file = tmp_path / "tempo-scratch-link", tmp_path / "tempo-scratch-file"
    link.symlink_to(target)
    file.touch()
    drop_scratch(*make_scratch(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "tempo-scratch-link", "tempo-scratch-file"}
    assert (target / "video.mp4").exists()
