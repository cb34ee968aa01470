"""Sources on local disk: what counts as changed, and bytes that stay the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from storage import fetch, stat_source
from storage.sources import fetch as fetching
from tempo_core.errors import SourceChanged, SourceError


def test_a_source_changes_with_size_or_time(folder: Path) -> None:
    path = folder / "b.mp4"
    before = stat_source(str(path))
    assert before == stat_source(f"file://{path}")
    assert (before.uri, before.size) == (str(path), 5)
    os.utime(path, ns=(1, before_ns := path.stat().st_mtime_ns + 1))
    assert stat_source(str(path)).modified == str(before_ns) != before.modified


def test_what_is_no_file_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match="is no file"):
        stat_source(str(folder))
    with pytest.raises(SourceError, match="No such file"):
        stat_source(str(folder / "nothing"))


def test_a_local_file_is_hashed_where_it_is(folder: Path, tmp_path: Path) -> None:
    with fetch(str(folder / "b.mp4"), tmp_path / "scratch") as fetched:
        assert fetched.path == folder / "b.mp4"
        assert fetched.sha256 == hashlib.sha256(b"b.mp4").hexdigest()
        assert fetched.source == stat_source(str(folder / "b.mp4"))
    assert not (tmp_path / "scratch").exists()


def test_a_file_that_changes_while_it_is_hashed_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, hash_file = folder / "b.mp4", fetching._hash

    def change_first(*args: object) -> str:
        path.write_bytes(b"another")
        return hash_file(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fetching, "_hash", change_first)
    with pytest.raises(SourceChanged, match=f"{path} changed while it was read"), fetch(str(path), folder):
        pytest.fail("nothing may be decoded of it")


def test_a_file_that_changes_while_it_is_decoded_is_refused(folder: Path) -> None:
    path = folder / "b.mp4"
    with pytest.raises(SourceChanged, match="changed while it was read"), fetch(str(path), folder):
        path.write_bytes(b"another")


def test_size_and_time_are_bounded(folder: Path) -> None:
    with pytest.raises(SourceError, match="has 5 bytes, more than the 4"), fetch(str(folder / "b.mp4"), folder, 4):
        pass
    with pytest.raises(SourceError, match="took too long"), fetch(str(folder / "b.mp4"), folder, deadline_s=-1):
        pass
