"""Scratch folders that no process leaves behind for good: the next one sweeps what a killed one left.

They lie in a folder that all users of the machine share. Their names cannot be guessed and nobody else may look into
them (``mkdtemp``); what others made there, or a link, is neither used nor swept.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "tempo-scratch-"
_LOCK = ".lock"


@contextmanager
def scratch_folder(base: Path) -> Iterator[Path]:
    """A new folder in ``base`` for as long as the context lasts."""
    folder, lock = make_scratch(base)
    try:
        yield folder
    finally:
        drop_scratch(folder, lock)


def make_scratch(base: Path) -> tuple[Path, int]:
    """(a new folder in ``base``, the open lock that says it is in use); the kernel frees the lock with the process."""
    _sweep(base)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _LOCK).exists():
            return folder, lock
        os.close(lock)  # another process of this user swept it before it was locked


def drop_scratch(folder: Path, lock: int) -> None:
    """Remove the folder and all in it."""
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _sweep(base: Path) -> None:
    """Remove this user's folders whose lock nobody holds; one without a lock yet is just being made."""
    for folder in filter(_is_own_folder, base.glob(_PREFIX + "*")):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def _is_own_folder(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
