"""What holds a library's bytes, a folder or an S3 prefix, behind one protocol. Paths are relative, with /."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from storage.stores.lease import Lease

LIBRARY_FILE = "library.json"
LEASE_FILE = "lease.json"
PENDING_FILE = "pending.json"
COMMIT_LOCK = "commit.lock"
PARTS_FOLDER = "parts"
ASKED_FOLDER = "asked"
TABLES_FOLDER = "tables"
STAGED_SUFFIX = ".staged"


@dataclass(frozen=True)
class FileInfo:
    """A file of the library; ``modified`` in seconds of the Unix epoch."""

    path: str
    size: int
    modified: float


@dataclass(frozen=True)
class ByteRange:
    """Bytes from ``offset`` that are to fill ``target``, a writable view of bytes."""

    offset: int
    target: memoryview


class Store(Protocol):
    """Where files are. Writes are whole or not there at all; a missing file is a FileNotFoundError."""

    uri: str
    tables_uri: str
    table_options: Mapping[str, str]
    exclusive: bool  # the lease cannot be lost while held, so nobody else can be inside a commit

    def exists(self, path: str) -> bool:
        """Whether the file is there."""

    def modified(self, path: str) -> float | None:
        """When the file was written last, in seconds of the Unix epoch; None where there is none."""

    def read_bytes(self, path: str) -> bytes:
        """A small file, whole."""

    def write_bytes(self, path: str, data: bytes) -> None:
        """A small file, replaced in one step and durable; its folder is made where it is missing."""

    def staging(self, path: str) -> Path:
        """The local file in which the part for ``path`` is to be written before it is published."""

    def publish(self, staged: Path, path: str) -> None:
        """Turn the staged local file into ``path``, in one step and durable; the staged one is gone then."""

    def read_ranges(self, path: str, ranges: Sequence[ByteRange]) -> None:
        """Fill every range's target; EOFError where the file is too short."""

    def blocks(self, path: str) -> Iterator[bytes | memoryview]:
        """The whole file, piece by piece, each good until the next one."""

    def open(self, path: str) -> BinaryIO:
        """A seekable reader for pyarrow."""

    def files(self, folder: str) -> Iterator[FileInfo]:
        """All files below ``folder``, staged ones included."""

    def delete(self, path: str) -> None:
        """Remove a file; one that is not there is fine."""

    def check_tables(self) -> None:
        """LibraryError where something below tables/ leads out of the library."""

    def discard_uploads(self, oldest: float) -> None:
        """Drop uploads that were begun before that time of the Unix epoch and never ended."""

    def lease(self) -> Lease:
        """The writer's lease, not yet held."""

    def commit_lock(self) -> AbstractContextManager[None]:
        """Held around a commit that may have to be undone, so that nobody else's commit is undone with it."""

    def free_bytes(self) -> int | None:
        """Bytes that can still be written, None where there is no such limit."""
