"""Patterns of names: globs as sources, and what is included in and excluded from a folder or prefix."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pathspec import GitIgnoreSpec

from tempo_core.errors import UsageError

ANY_DEPTH = "**"
EVERYTHING_BELOW = (ANY_DEPTH, "*")  # what a folder or prefix stands for

GlobPositions = frozenset[int]  # the parts of a glob up to which a path may be matched: several at once


def split_glob(text: str) -> tuple[str, tuple[str, ...]]:
    """(what lies before the first part with a wildcard, with its /; the parts from there on)."""
    parts = text.split("/")
    first = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "".join(f"{part}/" for part in parts[:first]), tuple(parts[first:])


def matches_glob(path: str, glob_parts: Sequence[str]) -> bool:
    """Whether a path (with /) matches the parts of a glob, as ``glob.glob(..., recursive=True)`` would find it.

    * ? [ ] stay within a part, ** is any number of parts, and none of them matches a name that begins with a dot.
    """
    positions = first_positions(glob_parts)
    for part in path.split("/"):
        positions = after_part(positions, part, glob_parts)
    return is_whole(positions, glob_parts)


def first_positions(glob_parts: Sequence[str]) -> GlobPositions:
    """Where in a glob a path begins that has no part yet."""
    return _with_empty_any_depth({0}, glob_parts)


def after_part(positions: GlobPositions, part: str, glob_parts: Sequence[str]) -> GlobPositions:
    """Where in the glob a path is after one more part; empty where neither it nor any path below it matches."""
    stay = {at for at in positions if at < len(glob_parts) and _is_any_depth(glob_parts[at], part)}
    step = {at + 1 for at in positions if at < len(glob_parts) and _matches_part(part, glob_parts[at])}
    return _with_empty_any_depth(stay | step, glob_parts)


def is_whole(positions: GlobPositions, glob_parts: Sequence[str]) -> bool:
    """Whether a path that has come so far matches the whole glob."""
    return len(glob_parts) in positions


class PathFilter:
    """Accepts paths that match one of ``include`` (or any, if there is none) and none of ``exclude``.

    Patterns as in .gitignore: without a slash they are compared with the name of the file and of every folder above
    it, with one with the path from the folder or prefix that was named; upper and lower case differ. UsageError for a
    pattern that can match nothing.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = _spec(include) if include else None
        self._exclude = _spec(exclude)

    def accepts(self, relative_path: str) -> bool:
        """``relative_path``: with /, counted from the folder or prefix that was named."""
        if self._include is not None and not self._include.match_file(relative_path):
            return False
        return not self._exclude.match_file(relative_path)


def _spec(patterns: Sequence[str]) -> GitIgnoreSpec:
    for pattern in patterns:
        if not pattern.strip() or pattern.startswith(("!", "#")):
            raise UsageError(
                f"{pattern!r} is not a valid pattern to include or exclude; write one like '*.mp4', 'raw/' or "
                r"'/2026/**/cam1', and \! or \# for a name that begins so"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of pathspec's regular expression for [[], which is right
            return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise UsageError(f"{', '.join(patterns)}: not a valid pattern to include or exclude: {error}") from error


def _with_empty_any_depth(positions: set[int], glob_parts: Sequence[str]) -> GlobPositions:
    """``positions`` and those behind each ** that follows them, because ** matches no part as well."""
    reached = set(positions)
    for position in sorted(positions):
        at = position
        while at < len(glob_parts) and glob_parts[at] == ANY_DEPTH:
            at += 1
            reached.add(at)
    return frozenset(reached)


def _is_any_depth(glob_part: str, part: str) -> bool:
    return glob_part == ANY_DEPTH and not part.startswith(".")


def _matches_part(part: str, glob_part: str) -> bool:
    if part.startswith(".") and not glob_part.startswith("."):
        return False
    return fnmatchcase(part, glob_part) if part else not glob_part
