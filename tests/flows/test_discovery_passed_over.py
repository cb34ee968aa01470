"""What a folder holds besides videos is counted for the user, in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.run.discovery import find_sources


@pytest.fixture
def archive(archive: Path) -> Path:
    write(archive / "cam1/a.mp4", archive / "cam2/notes.txt")
    return archive


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"anything")


def test_what_a_folder_holds_besides_videos_is_counted_by_suffix(archive: Path) -> None:
    others = ("cam1/a.JPG", "cam1/b.jpg", "cam2/README", "cam2/.hidden.txt", "cam2/still.gif", "clip.y4m")
    write(*(archive / name for name in others))
    found = find_sources([str(archive), str(archive / "cam1"), f"{archive}/**"])
    assert [source.uri for source in found.sources] == [f"{archive}/cam1/a.mp4", f"{archive}/clip.y4m"]
    assert found.passed_over is not None
    _, counts, _ = re.split(": |; ", found.passed_over)
    assert sorted(counts.split(", ")) == ["1 .gif", "1 .txt", "1 without a suffix", "2 .jpg"]


def test_two_folders_pass_over_what_both_hold(archive: Path) -> None:
    write(archive / "cam1/notes.txt")
    found = find_sources([str(archive / "cam1"), str(archive / "cam2")])
    assert found.passed_over is not None and ": 2 .txt; " in found.passed_over


def test_what_was_excluded_or_named_or_belongs_to_a_library_is_not_passed_over(archive: Path) -> None:
    write(archive / "library/library.json", archive / "library/parts/a.parquet")
    assert find_sources([str(archive)], exclude=["*.txt"]).passed_over is None
    assert find_sources([str(archive)], include=["*.mp4", "*.parquet"]).passed_over is None
    assert find_sources([str(archive), str(archive / "cam2/notes.txt")]).passed_over is None


def test_of_many_kinds_the_most_frequent_are_named(archive: Path) -> None:
    write(*(archive / f"cam2/file.k{kind:02}" for kind in range(12)))
    found = find_sources([str(archive)])
    assert found.passed_over is not None and found.passed_over.endswith("5 of other kinds; name a file to index it")
