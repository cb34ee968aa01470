"""The set of sources that a name stands for: a file, the videos below a folder or S3 prefix, those a glob matches."""

from __future__ import annotations

import errno
import glob
import logging
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from storage.records import Source
from storage.sources.fetch import local_uri
from storage.sources.patterns import EVERYTHING_BELOW, matches_glob, split_glob
from storage.sources.walk import FolderSearch
from tempo_core.errors import SourceError
from tempo_core.local_paths import FILE_SCHEME, local_path

VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv".split()
)
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundVideo:
    """A video of a set.

    ``relative_path``: its path below the folder or prefix that was named. ``by_search``: a search found it; otherwise
    it was named itself, and ``relative_path`` is its file name. ``listed``: size and mark as the listing of a bucket
    gave them, None for a file of this machine.
    """

    uri: str
    relative_path: str
    by_search: bool
    listed: Source | None = None


@dataclass(frozen=True)
class SourceSet:
    """The videos that one name stands for: those there now (``videos``), and any there may be (``relative_path()``).

    ``named``: what was named, in the form of ``comparison_key``; None for a glob. ``root``: what all of the set but
    ``named`` itself begins with, ending in /. ``glob_parts``: the glob below ``root``, split at /; that of a folder or
    prefix is all that is not hidden. ``unreadable``: folders that could not be searched, ending in /.
    ``empty_reason``: why, where the name matches nothing.
    """

    name: str
    named: str | None
    root: str
    glob_parts: tuple[str, ...] = EVERYTHING_BELOW
    videos: tuple[FoundVideo, ...] = ()
    unreadable: tuple[str, ...] = ()
    empty_reason: str | None = None

    def relative_path(self, key: str) -> str | None:
        """The path below ``root`` of a video that belongs to the set, whether it exists or not; None for any other.

        ``key``: a URI in the form of ``comparison_key``. What a folder that could not be searched holds is not known,
        so its videos do not belong to the set.
        """
        if key == self.named:
            return _file_name(key)
        if not key.startswith(self.root) or key.startswith(self.unreadable) or not is_video(key):
            return None
        path = key[len(self.root) :]
        return path if matches_glob(path, self.glob_parts) else None


def expand(name: str) -> SourceSet:
    """The set that a local path, file:// or s3:// URI, or a glob of either (** for any depth) stands for.

    A file is taken whatever its suffix; folders are searched below for video suffixes, S3 prefixes (ending with /, or
    no object themselves) likewise. A folder may be empty; where a name matches nothing, ``empty_reason`` says so.
    SourceError if a bucket cannot be listed.
    """
    if name.startswith("s3://"):
        return _s3_set(name)
    if not name.removeprefix(FILE_SCHEME).strip():
        raise SourceError(f"{name!r} names no file and no folder; write . for the current folder")
    path = local_path(name)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return _not_there(name, path, error)
    except ValueError:  # a zero byte in the name
        return SourceSet(name, str(path), f"{path}/", empty_reason=f"{name!r}: no such file or folder")
    if stat.S_ISDIR(mode):
        return _folder(name, path)
    if stat.S_ISREG(mode):
        video = FoundVideo(local_uri(path), path.name, by_search=False)
        return SourceSet(name, str(path), f"{path}/", videos=(video,))
    return SourceSet(name, str(path), f"{path}/", empty_reason=f"{name}: neither a file nor a folder")


def comparison_key(uri: str) -> str:
    """The form in which URIs are compared with sets: paths as ``local_path`` spells them, S3 addresses as they are.

    Earlier versions kept ``..`` and two slashes at the beginning of a path.
    """
    return str(local_path(uri)) if uri.startswith(("file://", "//")) or ("/../" in uri and uri[0] == "/") else uri


def is_video(name: str) -> bool:
    """Whether a path or URI ends like a video that is not hidden."""
    file = _file_name(name)
    return not file.startswith(".") and os.path.splitext(file)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122 - or a URI


def _not_there(name: str, path: Path, error: OSError) -> SourceSet:
    """What a pattern matches, or why nothing is at ``path``; what cannot be looked at may well be there."""
    if glob.has_magic(str(path)):
        return _local_glob(name, str(path))
    if error.errno in _NOT_THERE:
        return SourceSet(name, str(path), f"{path}/", empty_reason=f"{name}: no such file or folder")
    return SourceSet(name, None, str(path), unreadable=(str(path),), empty_reason=f"{name}: {error.strerror}")


def _folder(name: str, path: Path) -> SourceSet:
    root = f"{str(path).rstrip('/')}/"
    videos, unreadable = _search(root, EVERYTHING_BELOW)
    return SourceSet(name, str(path), root, EVERYTHING_BELOW, videos, unreadable)


def _local_glob(name: str, text: str) -> SourceSet:
    root, parts = split_glob(text)
    videos, unreadable = _search(root, parts)
    reason = None if videos else _no_video(name)
    if not videos and unreadable:
        reason = f"{name}: no video there that can be read; cannot be searched: {', '.join(unreadable)}"
    return SourceSet(name, None, root, parts, videos, unreadable, reason)


def _search(root: str, glob_parts: tuple[str, ...]) -> tuple[tuple[FoundVideo, ...], tuple[str, ...]]:
    """(the videos below ``root`` that match the glob, the folders that could not be searched)."""
    unreadable: list[str] = []

    def note(error: OSError) -> None:
        log.warning("a folder cannot be searched: %s", error)
        unreadable.append(f"{str(error.filename).rstrip('/')}/")

    files = (file for file in FolderSearch(root, glob_parts, note).files() if is_video(file.name))
    videos = tuple(FoundVideo(local_uri(file), str(file)[len(root) :], by_search=True) for file in files)
    return videos, tuple(unreadable)


def _s3_set(name: str) -> SourceSet:
    from storage.sources.s3_sources import list_below
    from storage.stores.s3_client import parse_uri

    if not parse_uri(name).bucket:
        raise SourceError(f"{name}: names no bucket; write s3://bucket/name")
    if glob.has_magic(parse_uri(name).bucket):
        raise SourceError(f"{name}: the name of a bucket takes no wildcards")
    is_prefix = name.endswith("/")
    root = name if is_prefix else f"{name}/"
    listed = list_below(name)
    named = () if is_prefix else tuple(_named(one) for one in listed if one.uri == name)
    below = tuple(
        FoundVideo(one.uri, one.uri[len(root) :], by_search=True, listed=one)
        for one in listed
        if is_video(one.uri) and matches_glob(one.uri[len(root) :], EVERYTHING_BELOW) and one.uri != name
    )
    videos = named + below
    if not videos and glob.has_magic(name):
        return _s3_glob(name)
    reason = None if videos else _no_video(name)
    return SourceSet(name, None if is_prefix else name, root, videos=videos, empty_reason=reason)


def _named(listed: Source) -> FoundVideo:
    return FoundVideo(listed.uri, _file_name(listed.uri), by_search=False, listed=listed)


def _s3_glob(name: str) -> SourceSet:
    """All that begins as the glob does, up to its first wildcard, compared by the rules of local globs."""
    from storage.sources.s3_sources import list_beginning

    root, parts = split_glob(name)
    videos = tuple(
        FoundVideo(one.uri, one.uri[len(root) :], by_search=True, listed=one)
        for one in list_beginning(re.split(r"[*?[]", name, maxsplit=1)[0])
        if one.uri.startswith(root) and is_video(one.uri) and matches_glob(one.uri[len(root) :], parts)
    )
    return SourceSet(name, None, root, parts, videos, empty_reason=None if videos else _no_video(name))


def _file_name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


def _no_video(name: str) -> str:
    return f"{name}: no video there (looked for {' '.join(sorted(VIDEO_SUFFIXES))})"
