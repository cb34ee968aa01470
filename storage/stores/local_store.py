"""A library in a folder: rename publishes, fsync makes durable, flock is the lease."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from storage.stores import confined
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
        return confined.exists(self.root, path)

    def modified(self, path: str) -> float | None:
        """By the file system's clock."""
        return confined.modified(self.root, path)

    def read_bytes(self, path: str) -> bytes:
        """A small file, whole."""
        with self.open(path) as file:
            return file.read()

    def write_bytes(self, path: str, data: bytes) -> None:
        """Written beside, synced, renamed."""
        with space_errors(self.uri):
            confined.exists(self.root, PARTS_FOLDER)  # or it is a link
            _make_folders(self.root / PARTS_FOLDER)  # where prune looks for what a killed writer left
            confined.exists(self.root, path)  # or a folder on the way is a link, in which none is to be made
            _make_folders((self.root / path).parent)
            staged = f"{PARTS_FOLDER}/{secrets.token_hex(8)}{STAGED_SUFFIX}"
            # no mkstemp: whoever may read the folder may read the file
            with os.fdopen(confined.open_file(self.root, staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self.publish(self.root / staged, path)

    def staging(self, path: str) -> Path:
        """Beside the final file, so that publishing is one rename; made empty, so that its folder stays."""
        staged = self.root / (path + STAGED_SUFFIX)
        with space_errors(self.uri):
            while True:
                try:
                    confined.exists(self.root, path)  # or a folder on the way is a link, in which none is to be made
                    _make_folders(staged.parent)
                    os.close(confined.open_file(self.root, path + STAGED_SUFFIX, os.O_WRONLY | os.O_CREAT))
                    return staged
                except FileNotFoundError:  # another process removed the folder, which was empty until now
                    continue

    def publish(self, staged: Path, path: str) -> None:
        """Rename, then sync the folder: without it a power cut can take the name back."""
        with confined.folder_of(self.root, path) as (folder, name):
            os.replace(staged, name, dst_dir_fd=folder)
            os.fsync(folder)

    def read_ranges(self, path: str, ranges: Sequence[ByteRange]) -> None:
        """pread in pieces over a few threads, straight into the targets."""
        pieces = [piece for byte_range in ranges for piece in _pieces(byte_range)]
        descriptor = confined.open_file(self.root, path)
        try:
            _read_pieces(descriptor, pieces)
        finally:
            os.close(descriptor)

    def blocks(self, path: str) -> Iterator[bytes]:
        """A megabyte at a time."""
        with os.fdopen(confined.open_file(self.root, path), "rb", buffering=0) as file:
            while block := file.read(1 << 20):
                yield block

    def open(self, path: str) -> BinaryIO:
        """The plain file."""
        return os.fdopen(confined.open_file(self.root, path), "rb")

    def files(self, folder: str) -> Iterator[FileInfo]:
        """Walk the folder; a file that vanishes meanwhile is not listed, nor is a link or what it leads to."""
        return confined.plain_files(self.root, folder)

    def delete(self, path: str) -> None:
        """Unlink, and drop the folders below parts/ that are left empty."""
        with suppress(FileNotFoundError), confined.folder_of(self.root, path) as (descriptor, name):
            os.unlink(name, dir_fd=descriptor)
        for folder in (self.root / path).parents:
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
        return LocalLease(self.root, LEASE_FILE, self.uri)

    @contextmanager
    def commit_lock(self) -> Iterator[None]:
        """A lock on a file of its own, as the lease is not asked for by what only commits."""
        lock = LocalLease(self.root, COMMIT_LOCK, self.uri, poll_s=0.005)
        lock.acquire(COMMIT_WAIT_S)
        try:
            yield
        finally:
            lock.release()

    def free_bytes(self) -> int | None:
        """Free space of the file system the folder is, or would be, on."""
        existing = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        return shutil.disk_usage(existing).free

    def check_tables(self) -> None:
        """LanceDB opens the files by itself, and follows links."""
        confined.refuse_links(self.root, TABLES_FOLDER)


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
