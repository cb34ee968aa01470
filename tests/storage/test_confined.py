"""A library that somebody else made: nothing in it leads out of it, to what is the user's own."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from storage import Library, open_library
from tempo_core.errors import LibraryError
from tests.support.storage_harness import index, put

LAYOUT = ["parts", "tables", "tables/videos.lance", "tables/videos.lance/data"]
MINE = "what I wrote"


@pytest.fixture
def library(library: Library) -> Library:
    index(library, {"/a": 1})
    return library


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of the user's, old enough to be swept."""
    folder = tmp_path / "photos"
    (folder / "ab" / "abcd").mkdir(parents=True)
    for name in ("1.jpg", "ab/2.jpg", "ab/abcd/states-01-0123456789abcdef0123.parquet"):
        (folder / name).write_text(MINE)
        os.utime(folder / name, (0, 0))
    return folder


def untouched(folder: Path) -> bool:
    return [path.read_text() for path in folder.rglob("*") if path.is_file()] == [MINE] * 3


def replace_by_link(path: Path, target: Path) -> None:
    if path.exists():
        path.rename(path.with_name("moved-away"))
    path.symlink_to(target)


def everything(uri: str) -> None:
    """What a user may do with a library; each part may refuse it."""
    for action in (
        lambda: open_library(uri).verify(grace_s=0),
        lambda: open_library(uri).status(),
        lambda: prune(uri),
        lambda: remove(uri),
        lambda: index_one(uri),
    ):
        with suppress(LibraryError):
            action()


def prune(uri: str) -> None:
    with open_library(uri).writer() as writer:
        writer.prune(grace_s=0)


def remove(uri: str) -> None:
    with open_library(uri).writer() as writer:
        writer.remove(["/a"])
        writer.prune(grace_s=0)


def index_one(uri: str) -> None:
    opened = open_library(uri, create=True)
    opened.pending()
    with opened.writer() as writer:
        put(opened, writer, "/b", 2)


@pytest.mark.parametrize("path", LAYOUT)
def test_a_folder_that_is_a_link_is_neither_followed_nor_swept(path: str, library: Library, photos: Path) -> None:
    replace_by_link(Path(library.uri, path), photos)
    everything(library.uri)
    assert untouched(photos)


def test_folders_of_one_video_that_are_links_are_not_swept(library: Library, photos: Path) -> None:
    parts = Path(library.uri, "parts")
    (parts / "cd").mkdir()
    for link in (parts / "ab", parts / "cd" / "abcd"):
        replace_by_link(link, photos)
    (parts / "cd" / "old.staged").symlink_to(photos / "1.jpg")
    prune(library.uri)
    assert untouched(photos)


@pytest.mark.parametrize("name", ["lease.json", "commit.lock"])
def test_a_lock_that_is_a_link_writes_to_no_file(name: str, library: Library, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text(MINE)
    replace_by_link(Path(library.uri, name), notes)
    with pytest.raises(LibraryError, match=f"{name} is not a plain file"):
        index_one(library.uri)
    assert notes.read_text() == MINE


@pytest.mark.parametrize("name", ["lease.json", "commit.lock", "pending.json", "library.json"])
def test_a_link_that_leads_nowhere_makes_no_file(name: str, library: Library, tmp_path: Path) -> None:
    replace_by_link(Path(library.uri, name), tmp_path / "made")
    everything(library.uri) if name != "library.json" else None
    with pytest.raises(LibraryError, match=f"{name} is not a plain file"):
        index_one(library.uri)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["lease.json", "commit.lock", "library.json", "pending.json"])
def test_a_file_that_is_a_pipe_is_not_waited_for(name: str, library: Library) -> None:
    replace = Path(library.uri, name)
    replace.unlink(missing_ok=True)
    os.mkfifo(replace)
    with pytest.raises(LibraryError, match=f"{name} is not a plain file"):
        index_one(library.uri)


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "parts/../../secret", "parts/\0", ""])
def test_a_path_that_leaves_the_library_is_no_path_of_it(path: str, library: Library, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(MINE)
    for use in (library.store.read_bytes, library.store.delete, library.store.exists, library.store.staging):
        with pytest.raises(LibraryError, match="not a path inside a library"):
            use(path)
    assert (tmp_path / "secret").exists()


def test_the_librarys_own_address_may_be_a_link(library: Library, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(library.uri)
    assert [record.uri for record in open_library(str(tmp_path / "link")).videos()] == ["/a"]
