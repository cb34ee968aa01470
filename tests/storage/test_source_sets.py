"""What a name of sources stands for on a local disk: a file, what lies below a folder, what fits a pattern."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from storage.sources.source_sets import FoundVideo, SourceSet, comparison_key, expand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "A.MKV", "notes.txt", "deep/er/c.webm", ".hidden.mp4", "odd [1] name;'.mov"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def below(source_set: SourceSet) -> list[str]:
    return sorted(video.relative_path for video in source_set.videos)


def test_folders_are_searched_below_for_video_suffixes(folder: Path) -> None:
    source_set = expand(str(folder))
    assert below(source_set) == ["A.MKV", "b.mp4", "deep/er/c.webm", "odd [1] name;'.mov"]
    assert {video.uri for video in source_set.videos} == {f"{folder}/{path}" for path in below(source_set)}
    assert all(video.by_search for video in source_set.videos)


@pytest.mark.parametrize("name", ["notes.txt", "./notes.txt", "odd [1] name;'.mov", ".hidden.mp4"])
def test_a_file_is_taken_whatever_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(folder)
    path = folder / name
    for given in (name, path.as_uri()):
        assert expand(given).videos == (FoundVideo(str(path), path.name, by_search=False),)


def test_patterns_find_videos_at_any_depth(folder: Path) -> None:
    (folder / "deep.mp4").mkdir()
    assert below(expand(f"{folder}/**/*.webm")) == ["deep/er/c.webm"]
    assert below(expand(f"{folder}/*.mp4")) == ["b.mp4"]
    assert below(expand(f"{folder}/deep/*/*")) == ["er/c.webm"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nothing.mp4", "no such file or folder"), ("*.ogv", "no video there"), ("*.txt", "no video there")],
)
def test_a_name_that_fits_nothing_says_so(folder: Path, name: str, reason: str) -> None:
    source_set = expand(str(folder / name))
    assert source_set.videos == ()
    assert source_set.empty_reason is not None and source_set.empty_reason.startswith(f"{folder}/{name}: {reason}")


def test_an_empty_folder_is_no_slip(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert (expand(str(folder / "empty")).videos, expand(str(folder / "empty")).empty_reason) == ((), None)


def test_a_folder_that_cannot_be_searched_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)  # who runs the tests may be root, whom no folder refuses
    source_set = expand(str(folder))
    assert below(source_set) == ["A.MKV", "b.mp4", "odd [1] name;'.mov"]
    assert source_set.unreadable == (f"{folder}/deep/",)
    assert "cannot be searched" in caplog.text


def test_a_place_tells_what_it_stands_for_there_or_not(folder: Path) -> None:
    """What is found now is in the set, and so is what would be."""
    for name in (str(folder), f"{folder}/**/*.webm", f"{folder}/b.mp4", f"{folder}/nothing.mp4", f"{folder}/*.ogv"):
        source_set = expand(name)
        assert [source_set.relative_path(comparison_key(video.uri)) for video in source_set.videos] == [
            video.relative_path for video in source_set.videos
        ]
    assert expand(f"{folder}/*.ogv").relative_path(f"{folder}/gone.ogv") == "gone.ogv"
    assert expand(f"{folder}/nothing.mp4").relative_path(f"{folder}/nothing.mp4") == "nothing.mp4"
    assert expand(f"{folder}/nothing").relative_path(f"{folder}/nothing/a.mp4") == "a.mp4", "a folder that is gone"
    assert expand(str(folder)).relative_path(f"{folder}/gone/x.mp4") == "gone/x.mp4"
    for other in (f"{folder}x/a.mp4", f"{folder}/x.txt", f"{folder}/.x.mp4", "s3://bucket/a.mp4"):
        assert expand(str(folder)).relative_path(other) is None


def test_a_name_that_is_no_text_has_one_key(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.touch()
    (video,) = expand(str(tmp_path)).videos
    assert (video.uri, comparison_key(video.uri)) == (path.as_uri(), str(path))
    assert expand(video.uri).videos[0].uri == video.uri
