"""The videos that are to be indexed: what there is, whether it changed, and its bytes as a local file."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from storage.records import Source
from tempo_core.errors import SourceError

VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv".split()
)
log = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 1 << 40
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FetchedSource:
    """A source as a local file; ``sha256`` (hex) of its bytes is the video id."""

    source: Source
    path: Path
    sha256: str


def discover(sources: Sequence[str]) -> list[str]:
    """URIs of the videos that ``sources`` name, sorted and once each.

    A file is taken whatever its suffix; folders are searched below for video suffixes, S3 prefixes (ending with /, or
    no object themselves) likewise; a pattern with * ? [ ] is a glob (** for any depth). SourceError where a name fits
    nothing: a slip, more likely than a wish. A folder may be empty: its videos may all be gone.
    """
    found: set[str] = set()
    for name in sources:
        uris = set(_discover_s3(name) if name.startswith("s3://") else map(local_uri, _discover_local(name)))
        if not uris and not _is_folder(name):
            raise SourceError(f"{name}: no video there (looked for {' '.join(sorted(VIDEO_SUFFIXES))})")
        found.update(uris)
    return sorted(found)


def stat_source(uri: str, tags: Sequence[str] = ()) -> Source:
    """Size and modification mark of a source, without reading it; SourceError if it cannot be reached."""
    if uri.startswith("s3://"):
        from storage.s3_sources import stat_object

        size, modified = stat_object(uri)
        return Source(uri, size, modified, tuple(tags))
    path = local_path(uri)
    with _source_errors(uri):
        status = path.stat()
    if not path.is_file():
        raise SourceError(f"{uri} is no file")
    return Source(local_uri(path), status.st_size, str(status.st_mtime_ns), tuple(tags))


@contextmanager
def fetch(
    uri: str, scratch: Path, max_bytes: int = DEFAULT_MAX_BYTES, deadline_s: float = 3600.0, tags: Sequence[str] = ()
) -> Iterator[FetchedSource]:
    """The source as a local file, hashed, while the context lasts.

    A local file is used where it is. An S3 object is brought below ``scratch`` and removed at the end, whatever
    happens (what a killed process left is removed by the next fetch). SourceError if it is larger than ``max_bytes``,
    takes longer than ``deadline_s`` seconds, cannot be read, or changes before the context ends.
    """
    before = stat_source(uri, tags)
    if before.size > max_bytes:
        raise SourceError(f"{uri} has {before.size} bytes, more than the {max_bytes} that may be fetched")
    deadline = time.monotonic() + deadline_s
    if uri.startswith("s3://"):
        from storage.s3_sources import fetched_object

        with fetched_object(before, scratch, deadline) as (path, sha256):
            yield FetchedSource(before, path, sha256)
        return
    path = local_path(uri)
    sha256 = _hash(path, uri, deadline)
    _expect_unchanged(before)
    yield FetchedSource(before, path, sha256)
    _expect_unchanged(before)


def local_path(uri: str) -> Path:
    """The absolute path of a local source; links are kept, they are part of the name."""
    if uri.startswith("file://"):
        uri = os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    return Path(uri).expanduser().absolute()


def local_uri(path: Path) -> str:
    """The path itself; where a name is no UTF-8 text, file:// with its bytes escaped, because tables hold text."""
    try:
        return str(path).encode().decode()
    except UnicodeEncodeError:
        return path.as_uri()


def _discover_s3(name: str) -> list[str]:
    from storage.s3_sources import list_objects

    return [uri for uri in list_objects(name) if uri == name or _is_video(uri)]


def _discover_local(name: str) -> list[Path]:
    path = local_path(name)
    if path.is_file():
        return [path]
    if path.is_dir():
        walk = os.walk(path, onerror=lambda error: log.warning("a folder cannot be searched: %s", error))
        return [Path(parent, file) for parent, _, files in walk for file in files if _is_video(file)]
    if not glob.has_magic(name):
        raise SourceError(f"{name}: no such file or folder")
    matches = [Path(match).absolute() for match in glob.iglob(str(path), recursive=True)]  # noqa: PTH207 - absolute
    return [match for match in matches if match.is_file() and _is_video(match.name)]


def _is_folder(name: str) -> bool:
    return not name.startswith("s3://") and local_path(name).is_dir()


def _is_video(name: str) -> bool:
    file = name.rsplit("/", 1)[-1]
    return not file.startswith(".") and os.path.splitext(file)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122 - or a URI


def _hash(path: Path, uri: str, deadline: float) -> str:
    digest = hashlib.sha256()
    with _source_errors(uri), path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if time.monotonic() > deadline:
                raise SourceError(f"{uri}: reading it took too long and was given up")
    return digest.hexdigest()


def _expect_unchanged(before: Source) -> None:
    after = stat_source(before.uri)
    if (after.size, after.modified) != (before.size, before.modified):
        raise SourceError(f"{before.uri} changed while it was read; index it again when it is complete")


@contextmanager
def _source_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(f"{uri}: {error.strerror or error}") from error
