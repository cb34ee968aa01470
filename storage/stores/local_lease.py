"""The writer's lease on a local library: flock, which the kernel frees however its process ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path

from storage.stores.confined import open_file
from storage.stores.lease import busy, holder
from tempo_core.errors import LibraryBusy

POLL_S = 0.1


class LocalLease:
    """flock on a file, in which the holder names itself."""

    def __init__(self, root: Path, path: str, library: str, poll_s: float = POLL_S) -> None:
        self._root, self._path, self._poll_s = root, path, poll_s
        self._library = library
        self._descriptor: int | None = None

    def acquire(self, wait_s: float) -> None:
        """Poll for the lock; LibraryBusy after ``wait_s``, LibraryError where the file is a link."""
        deadline = time.monotonic() + wait_s
        descriptor = open_file(self._root, self._path, os.O_RDWR | os.O_CREAT)
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                written = os.pread(descriptor, 4096, 0).decode(errors="replace")
                os.close(descriptor)
                raise busy(self._library, written)
            time.sleep(self._poll_s)
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # on a full disk the holder has no name then, but prune must be able to run
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder()).encode(), 0)

    def check(self) -> None:
        """A lock cannot be lost; only one that was given back is missing."""
        if self._descriptor is None:
            raise LibraryBusy(f"{self._library}: this writer has given its lease back")

    def release(self) -> None:
        """Closing the file frees the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
