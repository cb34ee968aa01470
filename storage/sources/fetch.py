"""The sources of videos: whether one changed, and its bytes as a local file."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from storage.records import Source
from tempo_core.errors import SourceChanged, SourceError
from tempo_core.local_paths import local_path

DEFAULT_MAX_BYTES = 1 << 40
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FetchedSource:
    """A source as a local file; ``sha256`` (hex) of its bytes is the video id."""

    source: Source
    path: Path
    sha256: str


def stat_source(uri: str) -> Source:
    """Size and modification mark of a source, without reading it; SourceError if it cannot be reached."""
    if uri.startswith("s3://"):
        from storage.sources.s3_sources import stat_object

        size, modified = stat_object(uri)
        return Source(uri, size, modified)
    path = uri if uri.startswith("/") else str(local_path(uri))
    with _source_errors(uri):
        status = os.stat(path)  # noqa: PTH116 - pathlib is a third of the time of a hundred thousand files
    if not S_ISREG(status.st_mode):
        raise SourceError(f"{uri} is no file")
    return Source(uri if uri == path else local_uri(Path(path)), status.st_size, str(status.st_mtime_ns))


@contextmanager
def fetch(
    uri: str, scratch: Path, max_bytes: int = DEFAULT_MAX_BYTES, deadline_s: float = 3600.0
) -> Iterator[FetchedSource]:
    """The source as a local file, hashed, while the context lasts.

    A local file is used where it is. An S3 object is brought into a folder of its own in ``scratch``, which exists and
    may be one that several users share, and removed at the end, whatever happens (what a killed process left is removed
    by the next fetch). SourceError if it is larger than ``max_bytes``,
    takes longer than ``deadline_s`` seconds or cannot be read; SourceChanged if it changes before the context ends.
    """
    before = stat_source(uri)
    if before.size > max_bytes:
        raise SourceError(f"{uri} has {before.size} bytes, more than the {max_bytes} that may be fetched")
    deadline = time.monotonic() + deadline_s
    if uri.startswith("s3://"):
        from storage.sources.s3_sources import fetched_object

        with fetched_object(before, scratch, deadline) as (path, sha256):
            yield FetchedSource(before, path, sha256)
        return
    path = local_path(uri)
    sha256 = _hash(path, uri, deadline)
    _expect_unchanged(before)
    yield FetchedSource(before, path, sha256)
    _expect_unchanged(before)


def may_be_there(uri: str) -> bool:
    """Whether a file of this machine is there, or cannot be looked at; False for an S3 object, unasked."""
    if uri.startswith("s3://"):
        return False
    try:
        return local_path(uri).is_file()
    except OSError:
        return True


def local_uri(path: Path) -> str:
    """The path itself; where a name is no UTF-8 text, file:// with its bytes escaped, because tables hold text."""
    try:
        return str(path).encode().decode()
    except UnicodeEncodeError:
        return path.as_uri()


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
        raise SourceChanged(f"{before.uri} changed while it was read; index it again when it is complete")


@contextmanager
def _source_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(f"{uri}: {error.strerror or error}") from error
