"""Names of files as users write them, as one absolute path for each: the identity of a source, and of a library."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

FILE_SCHEME = "file://"


def local_path(name: str) -> Path:
    """The absolute path that a path or file:// URI means, without ``.``, ``..`` and doubled slashes.

    Links are kept, since they are part of the name; but what ``..`` follows is looked up where that is a link, as the
    system would. ``~`` means the home folder, unless a file of that name lies in the current folder.
    """
    if name.startswith(FILE_SCHEME):
        return _straightened(Path(os.fsdecode(unquote_to_bytes(name.removeprefix(FILE_SCHEME)))))
    return _straightened(with_home(name))


def with_home(name: str) -> Path:
    """The path with a leading ``~`` or ``~user`` replaced; as it is where that names a file here, or no user."""
    path = Path(name)
    if not name.startswith("~") or os.path.lexists(path.parts[0]):
        return path
    return Path(os.path.expanduser(name))  # noqa: PTH111 - pathlib's raises where there is no home or no such user


def home_folder() -> Path | None:
    """The user's home folder; None where neither HOME nor the system's list of users names one."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - as above
    return home if home.is_absolute() else None


def _straightened(path: Path) -> Path:
    absolute = path.absolute()
    first, *parts = absolute.parts
    if ".." not in parts:
        return absolute if first == "/" else Path("/", *parts)
    straight = Path("/")
    for part in parts:
        if part != "..":
            straight /= part
        else:
            straight = (Path(os.path.realpath(straight)) if straight.is_symlink() else straight).parent
    return straight
