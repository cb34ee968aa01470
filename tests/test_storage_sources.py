"""Sources on local disk: what counts as a video, what counts as changed, and bytes that stay the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from storage import discover, fetch, sources, stat_source
from tempo_core.errors import SourceError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "A.MKV", "notes.txt", "deep/er/c.webm", ".hidden.mp4", "odd [1] name;'.mov"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_folders_are_searched_below_for_video_suffixes(folder: Path) -> None:
    found = [str(Path(uri).relative_to(folder)) for uri in discover([str(folder)])]
    assert found == ["A.MKV", "b.mp4", "deep/er/c.webm", "odd [1] name;'.mov"]


def test_a_file_is_taken_whatever_its_suffix_and_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert discover(["notes.txt", "./b.mp4", f"file://{folder}/b.mp4"]) == [f"{folder}/b.mp4", f"{folder}/notes.txt"]
    assert discover(["odd [1] name;'.mov"]) == [f"{folder}/odd [1] name;'.mov"]


def test_patterns_find_videos_at_any_depth(folder: Path) -> None:
    assert discover([f"{folder}/**/*.webm"]) == [f"{folder}/deep/er/c.webm"]
    assert discover([f"{folder}/*.mp4"]) == [f"{folder}/b.mp4"]


@pytest.mark.parametrize(("name", "reason"), [("nothing.mp4", "no such file"), ("*.ogv", "no video there")])
def test_a_name_that_fits_nothing_is_told(folder: Path, name: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        discover([str(folder / "b.mp4"), str(folder / name)])


def test_an_empty_folder_costs_the_others_nothing(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert discover([str(folder / "empty"), str(folder / "b.mp4")]) == [f"{folder}/b.mp4"]


def test_a_folder_that_cannot_be_searched_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)  # who runs the tests may be root, whom no folder refuses
    assert f"{folder}/deep/er/c.webm" not in discover([str(folder)])
    assert "cannot be searched" in caplog.text


def test_a_source_changes_with_size_or_time(folder: Path) -> None:
    path = folder / "b.mp4"
    before = stat_source(str(path), ["news"])
    assert before == stat_source(f"file://{path}", ["news"])
    assert (before.uri, before.size, before.tags) == (str(path), 5, ("news",))
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
    path, hash_file = folder / "b.mp4", sources._hash

    def change_first(*args: object) -> str:
        path.write_bytes(b"another")
        return hash_file(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(sources, "_hash", change_first)
    with pytest.raises(SourceError, match=f"{path} changed while it was read"), fetch(str(path), folder):
        pytest.fail("nothing may be decoded of it")


def test_a_file_that_changes_while_it_is_decoded_is_refused(folder: Path) -> None:
    path = folder / "b.mp4"
    with pytest.raises(SourceError, match="changed while it was read"), fetch(str(path), folder):
        path.write_bytes(b"another")


def test_size_and_time_are_bounded(folder: Path) -> None:
    with pytest.raises(SourceError, match="has 5 bytes, more than the 4"), fetch(str(folder / "b.mp4"), folder, 4):
        pass
    with pytest.raises(SourceError, match="took too long"), fetch(str(folder / "b.mp4"), folder, deadline_s=-1):
        pass
