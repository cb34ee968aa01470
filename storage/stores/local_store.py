"""A library in a folder: rename publishes, fsync makes durable, flock is the lease."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from storage.stores.base import (
    COMMIT_LOCK,
    LEASE_FILE,
    PARTS_FOLDER,
    STAGED_SUFFIX,
    TABLES_FOLDER,
    ByteRange,
    FileInfo,
)
from storage.stores.lease import Lease
from storage.stores.local_lease import LocalLease
from storage.stores.space import space_errors
from tempo_core.host import cpu_count

READ_THREADS = min(8, cpu_count())  # one thread copies about 10 GB/s from the page cache, two 15 GB/s
COMMIT_WAIT_S = 120.0  # a commit takes milliseconds, compaction of large tables seconds
READ_PIECE = 16 << 20  # bytes of one pread: small enough to share one segment among the threads


class LocalStore:
    """Store over a folder of a POSIX file system."""

    exclusive = True  # the kernel holds the lock until the process ends

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(self.root)
        self.tables_uri = str(self.root / TABLES_FOLDER)
        self.table_options: Mapping[str, str] = {}

    def exists(self, path: str) -> bool:
        """Whether the file is there."""
        return (self.root / path).exists()

    def read_bytes(self, path: str) -> bytes:
        """A small file, whole."""
        return (self.root / path).read_bytes()

    def write_bytes(self, path: str, data: bytes) -> None:
        """Written beside, synced, renamed."""
        with space_errors(self.uri):
            _make_folders(self.root / PARTS_FOLDER)  # where prune looks for what a killed writer left
            staged = self.root / PARTS_FOLDER / f"{secrets.token_hex(8)}{STAGED_SUFFIX}"
            with staged.open("xb") as file:  # no mkstemp: whoever may read the folder may read the file
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self.publish(staged, path)

    def staging(self, path: str) -> Path:
        """Beside the final file, so that publishing is one rename; made empty, so that its folder stays."""
        staged = self.root / (path + STAGED_SUFFIX)
        with space_errors(self.uri):
            while True:
                try:
                    _make_folders(staged.parent)
                    staged.touch()
                    return staged
                except FileNotFoundError:  # another process removed the folder, which was empty until now
                    continue

    def publish(self, staged: Path, path: str) -> None:
        """Rename, then sync the folder: without it a power cut can take the name back."""
        target = self.root / path
        staged.replace(target)
        _sync_folder(target.parent)

    def read_ranges(self, path: str, ranges: Sequence[ByteRange]) -> None:
        """pread in pieces over a few threads, straight into the targets."""
        pieces = [piece for byte_range in ranges for piece in _pieces(byte_range)]
        descriptor = os.open(self.root / path, os.O_RDONLY)
        try:
            _read_pieces(descriptor, pieces)
        finally:
            os.close(descriptor)

    def blocks(self, path: str) -> Iterator[bytes]:
        """A megabyte at a time."""
        with (self.root / path).open("rb", buffering=0) as file:
            while block := file.read(1 << 20):
                yield block

    def open(self, path: str) -> BinaryIO:
        """The plain file."""
        return (self.root / path).open("rb")

    def files(self, folder: str) -> Iterator[FileInfo]:
        """Walk the folder; a file that vanishes meanwhile is not listed."""
        for parent, _, names in os.walk(self.root / folder):
            for name in names:
                yield from self._file(Path(parent, name))

    def delete(self, path: str) -> None:
        """Unlink, and drop the folders below parts/ that are left empty."""
        target = self.root / path
        target.unlink(missing_ok=True)
        for folder in target.parents:
            if self.root / PARTS_FOLDER not in folder.parents:
                return
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:  # it is not empty, or not any more
                return

    def discard_uploads(self, oldest: float) -> None:
        """There are none."""

    def lease(self) -> Lease:
        """A lock on the lease file."""
        _make_folders(self.root)
        return LocalLease(self.root / LEASE_FILE, self.uri)

    @contextmanager
    def commit_lock(self) -> Iterator[None]:
        """A lock on a file of its own: the processes of one run commit segment rows at the same time."""
        lock = LocalLease(self.root / COMMIT_LOCK, self.uri, poll_s=0.005)
        lock.acquire(COMMIT_WAIT_S)
        try:
            yield
        finally:
            lock.release()

    def free_bytes(self) -> int | None:
        """Free space of the file system the folder is, or would be, on."""
        existing = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        return shutil.disk_usage(existing).free

    def _file(self, file: Path) -> Iterator[FileInfo]:
        try:
            status = file.stat()
        except FileNotFoundError:
            return
        yield FileInfo(file.relative_to(self.root).as_posix(), status.st_size, status.st_mtime)


def _pieces(byte_range: ByteRange) -> Iterator[ByteRange]:
    for start in range(0, len(byte_range.target), READ_PIECE):
        yield ByteRange(byte_range.offset + start, byte_range.target[start : start + READ_PIECE])


def _read_pieces(descriptor: int, pieces: Sequence[ByteRange]) -> None:
    if len(pieces) < 2:
        for piece in pieces:
            _read_piece(descriptor, piece)
        return
    with ThreadPoolExecutor(READ_THREADS) as threads:
        for done in [threads.submit(_read_piece, descriptor, piece) for piece in pieces]:
            done.result()


def _read_piece(descriptor: int, piece: ByteRange) -> None:
    offset, target = piece.offset, piece.target
    while target:
        count = os.preadv(descriptor, [target], offset)
        if count == 0:
            raise EOFError(f"the file ends at byte {offset}, {len(target)} bytes early")
        offset, target = offset + count, target[count:]


def _make_folders(folder: Path) -> None:
    """mkdir with parents, each new name synced into its parent."""
    if folder.exists():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
