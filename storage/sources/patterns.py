"""Patterns of names: globs as sources, and what of a folder or prefix is wanted and what not."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pathspec import GitIgnoreSpec

from tempo_core.errors import UsageError

ANY_DEPTH = "**"


def split_glob(text: str) -> tuple[str, tuple[str, ...]]:
    """(what lies before the first part with a wildcard, with its /; the parts from there on)."""
    parts = text.split("/")
    first = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "".join(f"{part}/" for part in parts[:first]), tuple(parts[first:])


def fits(path: str, pattern: Sequence[str]) -> bool:
    """Whether a path (with /) fits the parts of a glob, as ``glob.glob(..., recursive=True)`` would find it.

    * ? [ ] stay within a part, ** is any number of parts, and none of them stands for a name that begins with a dot.
    """
    reached = _skipped({0}, pattern)  # how many parts of the pattern are behind us: several ways at once
    for part in path.split("/"):
        stay = {at for at in reached if at < len(pattern) and _is_any_depth(pattern[at], part)}
        step = {at + 1 for at in reached if at < len(pattern) and _part_fits(part, pattern[at])}
        reached = _skipped(stay | step, pattern)
    return len(pattern) in reached


class Selection:
    """Which paths are wanted: those that fit one of ``include`` (or all, if there is none) and none of ``exclude``.

    Patterns as in .gitignore: without a slash they are compared with the name of the file and of every folder above
    it, with one with the path from the folder or prefix that was named; upper and lower case differ. UsageError for a
    pattern that can fit nothing.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = _spec(include) if include else None
        self._exclude = _spec(exclude)

    def wants(self, below: str) -> bool:
        """``below``: a path with /, counted from the folder or prefix that was named."""
        if self._include is not None and not self._include.match_file(below):
            return False
        return not self._exclude.match_file(below)


def _spec(patterns: Sequence[str]) -> GitIgnoreSpec:
    for pattern in patterns:
        if not pattern.strip() or pattern.startswith(("!", "#")):
            raise UsageError(
                f"{pattern!r} is no pattern to include or exclude; write one like '*.mp4', 'raw/' or '/2026/**/cam1', "
                r"and \! or \# for a name that begins so"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of pathspec's regular expression for [[], which is right
            return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise UsageError(f"{', '.join(patterns)}: no pattern to include or exclude: {error}") from error


def _skipped(reached: set[int], pattern: Sequence[str]) -> set[int]:
    """With those that follow because ** may stand for nothing."""
    found = set(reached)
    for at in sorted(reached):
        place = at
        while place < len(pattern) and pattern[place] == ANY_DEPTH:
            place += 1
            found.add(place)
    return found


def _is_any_depth(wanted: str, part: str) -> bool:
    return wanted == ANY_DEPTH and not part.startswith(".")


def _part_fits(part: str, wanted: str) -> bool:
    if part.startswith(".") and not wanted.startswith("."):
        return False
    return fnmatchcase(part, wanted) if part else not wanted
