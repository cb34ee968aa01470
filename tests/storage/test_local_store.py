"""A library's folder, in which several processes make and remove files at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.stores import local_store
from storage.stores.local_store import LocalStore

PART = "parts/ab/abcd/states-01-02.parquet"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "library")


def test_the_folders_of_the_last_part_go_with_it(store: LocalStore) -> None:
    store.publish(store.staging(PART), PART)
    other = store.staging("parts/ab/other/frames-01-02.parquet")
    store.delete(PART)
    assert [path.name for path in (store.root / "parts/ab").iterdir()] == ["other"]
    store.delete(other.relative_to(store.root).as_posix())
    assert list((store.root / "parts").iterdir()) == []


def test_deleting_what_is_gone_with_its_folder_is_fine(store: LocalStore) -> None:
    store.delete(PART)
    store.staging(PART).unlink()
    (store.root / "parts/ab/abcd").rmdir()
    store.delete(PART)
    assert list((store.root / "parts").iterdir()) == []


def test_a_file_that_comes_while_its_folder_is_removed_stays(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(store.staging(PART), PART)
    newcomer = store.root / "parts/ab/abcd/new.staged"
    rmdir = Path.rmdir

    def rmdir_late(folder: Path) -> None:
        newcomer.touch()
        rmdir(folder)

    monkeypatch.setattr(Path, "rmdir", rmdir_late)
    store.delete(PART)
    assert newcomer.exists()


def test_a_folder_that_is_removed_while_a_file_is_staged_is_made_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folders = local_store._make_folders
    removed: list[Path] = []

    def make_and_lose(folder: Path) -> None:
        make_folders(folder)
        if folder.name == "abcd" and not removed:
            folder.rmdir()
            removed.append(folder)

    monkeypatch.setattr(local_store, "_make_folders", make_and_lose)
    staged = store.staging(PART)
    assert removed == [staged.parent]
    staged.write_bytes(b"part")
    store.publish(staged, PART)
    assert store.read_bytes(PART) == b"part"
