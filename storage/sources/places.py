"""What the name of sources stands for: a file, the videos below a folder or S3 prefix, those that fit a pattern."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.records import Source
from storage.sources.fetch import local_path, local_uri
from storage.sources.patterns import fits, split_glob
from tempo_core.errors import SourceError

VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv".split()
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sighting:
    """A video that a name stands for.

    ``below``: its path below the folder or prefix that was named. ``searched``: it was found, not named itself; then
    ``below`` is more than its name. ``source``: as the listing of a bucket told it, None for a file of this machine.
    """

    uri: str
    below: str
    searched: bool
    source: Source | None = None


@dataclass(frozen=True)
class Place:
    """What one name stands for, now (``videos``) and at any time (``below``).

    ``file``: what was named, as ``place_key`` writes it, None for a pattern; ``root``: what lies below it begins so.
    ``unsearched``: folders that could not be read. ``nothing``: the reason, where a name fits nothing.
    """

    name: str
    file: str | None
    root: str
    pattern: tuple[str, ...] = ()
    videos: tuple[Sighting, ...] = ()
    unsearched: tuple[str, ...] = ()
    nothing: str | None = None

    def below(self, key: str) -> str | None:
        """The path below this place of a video that it stands for, there or not; None for any other.

        ``key``: a URI as ``place_key`` writes it. Of a folder that could not be read nothing is known: None.
        """
        if key == self.file:
            return _file_name(key)
        if not key.startswith(self.root) or key.startswith(self.unsearched) or not is_video(key):
            return None
        below = key[len(self.root) :]
        return below if not self.pattern or fits(below, self.pattern) else None


def look_up(name: str) -> Place:
    """The place of a name: a local path, file:// or s3:// URI, or a glob of either (** for any depth).

    A file is taken whatever its suffix; folders are searched below for video suffixes, S3 prefixes (ending with /, or
    no object themselves) likewise. A folder may be empty; where a name fits nothing, ``nothing`` says so. SourceError
    if a bucket cannot be listed.
    """
    if name.startswith("s3://"):
        return _s3_place(name)
    path = local_path(name)
    if path.is_file():
        return Place(name, str(path), f"{path}/", videos=(Sighting(local_uri(path), path.name, searched=False),))
    if path.is_dir():
        return _folder(name, path)
    if glob.has_magic(str(path)):
        return _local_glob(name, str(path))
    return Place(name, str(path), f"{path}/", nothing=f"{name}: no such file or folder")


def place_key(uri: str) -> str:
    """The form in which URIs are compared with places: paths as the system names them, S3 addresses as they are."""
    return str(local_path(uri)) if uri.startswith("file://") else uri


def is_video(name: str) -> bool:
    """Whether a path or URI ends like a video that is not hidden."""
    file = _file_name(name)
    return not file.startswith(".") and os.path.splitext(file)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122 - or a URI


def _folder(name: str, path: Path) -> Place:
    unsearched: list[str] = []

    def note(error: OSError) -> None:
        log.warning("a folder cannot be searched: %s", error)
        unsearched.append(f"{str(error.filename).rstrip('/')}/")

    root = f"{str(path).rstrip('/')}/"
    files = (Path(parent, file) for parent, _, files in os.walk(path, onerror=note) for file in files if is_video(file))
    videos = tuple(_searched(files, root))
    return Place(name, str(path), root, videos=videos, unsearched=tuple(unsearched))


def _local_glob(name: str, text: str) -> Place:
    root, pattern = split_glob(text)
    matches = [Path(match) for match in glob.iglob(text, recursive=True) if is_video(match)]  # noqa: PTH207 - absolute
    videos = tuple(_searched((match for match in matches if match.is_file()), root))
    return Place(name, None, root, pattern, videos, nothing=None if videos else _no_video(name))


def _searched(files: Iterator[Path], root: str) -> Iterator[Sighting]:
    return (Sighting(local_uri(file), str(file)[len(root) :], searched=True) for file in files)


def _s3_place(name: str) -> Place:
    from storage.sources.s3_sources import list_below
    from storage.stores.s3_client import parse_uri

    if glob.has_magic(parse_uri(name).bucket):
        raise SourceError(f"{name}: the name of a bucket takes no wildcards")
    is_prefix = name.endswith("/")
    root = name if is_prefix else f"{name}/"
    objects = (one for one in list_below(name) if is_video(one.uri) or (one.uri == name and not is_prefix))
    videos = tuple(
        Sighting(one.uri, one.uri[len(root) :] or _file_name(name), searched=one.uri != name, source=one)
        for one in objects
    )
    if not videos and glob.has_magic(name):
        return _s3_glob(name)
    return Place(name, None if is_prefix else name, root, videos=videos, nothing=None if videos else _no_video(name))


def _s3_glob(name: str) -> Place:
    """All that begins as the pattern does, up to its first wildcard, compared by the rules of local globs."""
    from storage.sources.s3_sources import list_beginning

    root, pattern = split_glob(name)
    videos = tuple(
        Sighting(one.uri, one.uri[len(root) :], searched=True, source=one)
        for one in list_beginning(re.split(r"[*?[]", name, maxsplit=1)[0])
        if one.uri.startswith(root) and is_video(one.uri) and fits(one.uri[len(root) :], pattern)
    )
    return Place(name, None, root, pattern, videos, nothing=None if videos else _no_video(name))


def _file_name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


def _no_video(name: str) -> str:
    return f"{name}: no video there (looked for {' '.join(sorted(VIDEO_SUFFIXES))})"
