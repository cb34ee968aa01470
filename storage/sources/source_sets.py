"""The set of sources that a name stands for: a file, the videos below a folder or S3 prefix, those a glob matches."""

from __future__ import annotations

import errno
import glob
import logging
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from storage.records import Source
from storage.sources.fetch import local_uri
from storage.sources.patterns import EVERYTHING_BELOW, matches_glob, split_glob
from storage.sources.video_files import VIDEO_SUFFIXES, is_video, is_video_file, may_be_video
from storage.sources.walk import FolderSearch
from tempo_core.errors import SourceError
from tempo_core.local_paths import FILE_SCHEME, local_path

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
    ``passed_over``: the paths below ``root`` of files that match and are not taken for videos. ``empty_reason``: why,
    where the name matches nothing.
    """

    name: str
    named: str | None
    root: str
    glob_parts: tuple[str, ...] = EVERYTHING_BELOW
    videos: tuple[FoundVideo, ...] = ()
    unreadable: tuple[str, ...] = ()
    passed_over: frozenset[str] = frozenset()
    empty_reason: str | None = None

    def relative_path(self, key: str) -> str | None:
        """The path below ``root`` of a video that belongs to the set, whether it exists or not; None for any other.

        ``key``: a URI in the form of ``comparison_key``. What a folder that could not be searched holds is not known,
        so its videos do not belong to the set.
        """
        if key == self.named:
            return _file_name(key)
        if not key.startswith(self.root) or key.startswith(self.unreadable) or not may_be_video(key):
            return None
        path = key[len(self.root) :]
        return path if matches_glob(path, self.glob_parts) and path not in self.passed_over else None


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


def _not_there(name: str, path: Path, error: OSError) -> SourceSet:
    """What a pattern matches, or why nothing is at ``path``; what cannot be looked at may well be there."""
    if glob.has_magic(str(path)):
        return _local_glob(name, str(path))
    if error.errno in _NOT_THERE:
        return SourceSet(name, str(path), f"{path}/", empty_reason=f"{name}: no such file or folder")
    return SourceSet(name, None, str(path), unreadable=(str(path),), empty_reason=f"{name}: {error.strerror}")


def _folder(name: str, path: Path) -> SourceSet:
    root = f"{str(path).rstrip('/')}/"
    return _search(SourceSet(name, str(path), root))


def _local_glob(name: str, text: str) -> SourceSet:
    found = _search(SourceSet(name, None, *split_glob(text)))
    reason = None if found.videos else _no_video(name)
    if not found.videos and found.unreadable:
        reason = f"{name}: no video there that can be read; cannot be searched: {', '.join(found.unreadable)}"
    return replace(found, empty_reason=reason)


def _search(source_set: SourceSet) -> SourceSet:
    """The set with what is found below its ``root`` now."""
    root = source_set.root
    videos: list[FoundVideo] = []
    passed_over: list[str] = []
    unreadable: list[str] = []

    def note(error: OSError) -> None:
        log.warning("a folder cannot be searched: %s", error)
        unreadable.append(f"{str(error.filename).rstrip('/')}/")

    for file in FolderSearch(root, source_set.glob_parts, note).files():
        path = str(file)[len(root) :]
        if is_video_file(file):
            videos.append(FoundVideo(local_uri(file), path, by_search=True))
        else:
            passed_over.append(path)
    return replace(source_set, videos=tuple(videos), unreadable=tuple(unreadable), passed_over=frozenset(passed_over))


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
    found = _listed_below(SourceSet(name, None if is_prefix else name, root), listed)
    videos = named + found.videos
    if not videos and glob.has_magic(name):
        return _s3_glob(name)
    return replace(found, videos=videos, empty_reason=None if videos else _no_video(name))


def _named(listed: Source) -> FoundVideo:
    return FoundVideo(listed.uri, _file_name(listed.uri), by_search=False, listed=listed)


def _s3_glob(name: str) -> SourceSet:
    """All that begins as the glob does, up to its first wildcard, compared by the rules of local globs."""
    from storage.sources.s3_sources import list_beginning

    listed = list_beginning(re.split(r"[*?[]", name, maxsplit=1)[0])
    found = _listed_below(SourceSet(name, None, *split_glob(name)), listed)
    return replace(found, empty_reason=None if found.videos else _no_video(name))


def _listed_below(source_set: SourceSet, listed: Iterable[Source]) -> SourceSet:
    """The set with what of a listing lies below its ``root`` and matches. Objects are not looked into."""
    root = source_set.root
    paths = {
        path: one
        for one in listed
        if one.uri.startswith(root) and matches_glob(path := one.uri[len(root) :], source_set.glob_parts)
    }
    videos = (FoundVideo(one.uri, path, by_search=True, listed=one) for path, one in paths.items() if is_video(path))
    passed_over = frozenset(path for path in paths if not is_video(path))
    return replace(source_set, videos=tuple(videos), passed_over=passed_over)


def _file_name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


def _no_video(name: str) -> str:
    return f"{name}: no video there (looked for {' '.join(sorted(VIDEO_SUFFIXES))})"
