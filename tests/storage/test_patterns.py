"""Patterns of names: one set of rules for globs on disk and on S3, gitignore's for what is wanted below a folder."""

from __future__ import annotations

import glob
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.sources.patterns import PathFilter, matches_glob, split_glob
from storage.sources.walk import FolderSearch
from tempo_core.errors import UsageError

NAMES = st.sampled_from(["a", "b", "A", "cam1", "cam12", ".a", ".hid", "a.mp4", "b.mp4", "c[1].mp4", "ä\nb.mp4", "-x"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PARTS = st.one_of(
    st.sampled_from(["*", "**", "?", "a*", "*.mp4", ".*", "[ab]*", "[!a]*", "cam?", "c[[]1].mp4", "c[1*", "a**4"]),
    NAMES,
)
PATTERNS = st.lists(PARTS, min_size=1, max_size=4)


def planted(folder: Path, paths: list[str]) -> set[str]:
    """The files among ``paths`` that could be made: a name can be a file and a folder on S3 only."""
    made = set()
    for path in paths:
        file = folder / path
        if file.exists() or any(parent.is_file() for parent in file.parents):
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        made.add(path)
    return made


@given(st.lists(PATHS, max_size=8, unique=True), PATTERNS)
def test_a_glob_fits_what_python_finds_on_a_disk(paths: list[str], pattern: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        files = planted(Path(name), paths)
        found = set(glob.glob("/".join(pattern), root_dir=name, recursive=True)) & files  # noqa: PTH207 - its rules
        assert {path for path in files if matches_glob(path, pattern)} == found


@given(st.lists(PATHS, max_size=8, unique=True), PATTERNS)
def test_a_search_finds_what_fits_and_enters_nothing_else(paths: list[str], pattern: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        files = planted(Path(name), paths)
        found = FolderSearch(f"{name}/", pattern, lambda error: pytest.fail(str(error))).files()
        assert sorted(str(path.relative_to(name)) for path in found) == sorted(
            path for path in files if matches_glob(path, pattern)
        )


@given(st.lists(PARTS, max_size=6))
def test_a_glob_is_split_before_its_first_wildcard(parts: list[str]) -> None:
    root, pattern = split_glob("/".join(["s3://bucket", *parts]))
    assert not glob.has_magic(root)
    assert root + "/".join(pattern) == "/".join(["s3://bucket", *parts]) + ("" if pattern else "/")


def test_many_any_depths_cost_no_more_than_one() -> None:
    """All ways at once: one after the other would be more ways than seconds in a year."""
    assert not matches_glob("/".join("a" * 300), ["**"] * 40 + ["b"])


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.mp4", "2026/cam1/a.mp4"),
        ("a.mp4", "2026/cam1/a.mp4"),
        ("raw", "2026/raw/a.mp4"),
        ("raw/", "2026/raw/deep/a.mp4"),
        ("/2026", "2026/raw/a.mp4"),
        ("2026/*/a.mp4", "2026/cam1/a.mp4"),
        ("2026/**", "2026/cam1/a.mp4"),
        ("**/cam1/*.mp4", "2026/05/cam1/a.mp4"),
        (r"\!a.mp4", "!a.mp4"),
    ],
)
def test_a_pattern_takes_as_git_does(pattern: str, path: str) -> None:
    assert PathFilter(include=[pattern]).accepts(path)
    assert not PathFilter(exclude=[pattern]).accepts(path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("*.MP4", "a.mp4"), ("raw/", "raw"), ("/a.mp4", "b/a.mp4"), ("2026/*/a.mp4", "2026/05/cam1/a.mp4"), ("a", "ab/b")],
)
def test_a_pattern_leaves_as_git_does(pattern: str, path: str) -> None:
    assert not PathFilter(include=[pattern]).accepts(path)
    assert PathFilter(exclude=[pattern]).accepts(path)


@given(
    st.lists(PARTS.map(lambda part: f"/{part}"), max_size=3),
    st.lists(PARTS.map(lambda part: f"/{part}"), max_size=3),
    PATHS,
)
def test_excluded_is_left_out_whatever_includes_it(include: list[str], exclude: list[str], path: str) -> None:
    wanted = PathFilter(include, exclude).accepts(path)
    assert wanted == (PathFilter(include).accepts(path) and PathFilter(exclude=exclude).accepts(path))
    assert not PathFilter([*include, path], [path]).accepts(path)


def test_without_patterns_all_is_wanted() -> None:
    assert PathFilter().accepts("any/thing")


@pytest.mark.parametrize("pattern", ["", "  ", "!a", "#a", "a\\"])
def test_what_is_no_pattern_is_told(pattern: str) -> None:
    with pytest.raises(UsageError, match="not a valid pattern to include or exclude"):
        PathFilter(include=[pattern])
    with pytest.raises(UsageError, match="not a valid pattern to include or exclude"):
        PathFilter(exclude=[pattern])
