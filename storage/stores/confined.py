"""Files of a folder that somebody else may have made, opened without ever leaving it.

A link inside a library is followed nowhere, wherever it stands in a path: it could lead to any file of the user's.
Nor is anything opened that is no plain file: a pipe would be waited for for ever, and a device has no end.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from storage.stores.base import PARTS_FOLDER, FileInfo
from tempo_core.errors import CorruptPart, LibraryError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_UNUSABLE = {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENOTDIR, errno.ENODEV}  # link, pipe, folder, file, device
NEW_FILE_MODE = 0o666  # less what the user's umask takes away


def names_of(path: str) -> tuple[str, ...]:
    """The parts of a path inside a library. LibraryError for one that is absolute or empty, or holds .. or a zero
    byte."""
    names = PurePosixPath(path).parts
    if not names or path.startswith("/") or ".." in names or "\0" in path:
        raise LibraryError(f"{path!r} is not a path inside a library")
    return names


@contextmanager
def folder_of(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """(the open folder that holds ``path``, the last name of ``path``). FileNotFoundError; LibraryError for a link."""
    *folders, name = names_of(path)
    with open_folder(root, folders) as folder:
        yield folder, name


@contextmanager
def open_folder(root: Path, names: list[str]) -> Iterator[int]:
    """The folder below ``root``, open. ``root`` itself may be a link: its name is the user's own."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for position, name in enumerate(names):
            with _explained(root, "/".join(names[: position + 1]), "a folder"):
                below = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def open_file(root: Path, path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a plain file below ``root``. FileNotFoundError; LibraryError for a link and all that is no
    plain file. With ``os.O_CREAT`` it is made where it is missing."""
    with folder_of(root, path) as (folder, name), _explained(root, path, "a plain file"):
        descriptor = _open_or_make(name, flags, folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.set_blocking(descriptor, True)
        return descriptor


def _open_or_make(name: str, flags: int, folder: int) -> int:
    present = flags & ~(os.O_CREAT | os.O_EXCL)
    if not flags & os.O_CREAT:
        return os.open(name, present | _FILE, dir_fd=folder)
    if not flags & os.O_EXCL:
        with suppress(FileNotFoundError):
            return os.open(name, present | _FILE, dir_fd=folder)
    try:
        return os.open(name, present | os.O_CREAT | os.O_EXCL | _FILE, NEW_FILE_MODE, dir_fd=folder)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return os.open(name, present | _FILE, dir_fd=folder)  # another process was faster; a dangling link is refused


def exists(root: Path, path: str) -> bool:
    """Whether there is a plain file or folder of that name; LibraryError where it or a folder on the way is a link."""
    return _status(root, path) is not None


def modified(root: Path, path: str) -> float | None:
    """When it was written last, in seconds of the Unix epoch, None where it is missing; LibraryError for a link."""
    status = _status(root, path)
    return None if status is None else status.st_mtime


def _status(root: Path, path: str) -> os.stat_result | None:
    try:
        with folder_of(root, path) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(status.st_mode):
        raise _refusal(root, path, "a plain file")
    return status


def plain_files(root: Path, folder: str) -> Iterator[FileInfo]:
    """The plain files at and below ``folder`` ("": all), links and what they lead to left out. A file that vanishes
    meanwhile is not listed, and nothing below a folder that is a link."""
    with suppress(FileNotFoundError, LibraryError), open_folder(root, _folders(folder)) as descriptor:
        for path, status in _entries(descriptor, folder):
            if stat.S_ISREG(status.st_mode):
                yield FileInfo(path, status.st_size, status.st_mtime)


def refuse_links(root: Path, folder: str) -> None:
    """LibraryError for the first link, pipe or device at or below ``folder``, which another library is to read."""
    with suppress(FileNotFoundError), open_folder(root, _folders(folder)) as descriptor:
        for path, status in _entries(descriptor, folder):
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise _refusal(root, path, "a plain file or folder")


def _folders(path: str) -> list[str]:
    return list(names_of(path)) if path else []


def _entries(descriptor: int, folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """(path, status) of all that is below an open folder, none of it followed."""
    for parent, folders, names, inside in os.fwalk(".", dir_fd=descriptor):
        for name in (*folders, *names):
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=inside, follow_symlinks=False)
                yield PurePosixPath(folder, parent, name).as_posix(), status


@contextmanager
def _explained(root: Path, path: str, kind: str) -> Iterator[None]:
    """A missing file stays a FileNotFoundError; what is there and cannot be used is a LibraryError."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        if error.errno in _UNUSABLE:
            raise _refusal(root, path, kind) from error
        raise


def _refusal(root: Path, path: str, kind: str) -> LibraryError:
    """A part costs only the videos that use it, anything else the whole library."""
    error = CorruptPart if path.startswith(f"{PARTS_FOLDER}/") else LibraryError
    return error(f"{root}/{path} is not {kind}: inside a library, links, pipes and devices are not followed or opened")
