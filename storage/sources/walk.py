"""The search below a folder, by its name and by a pattern alike: what links, hidden names and folders that cannot be
read are to it is decided here only."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.sources.patterns import GlobPositions, after_part, first_positions, is_whole

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_Identity = tuple[int, int]  # of a folder: device and inode


@dataclass(frozen=True)
class _Folder:
    """A folder to search: the path by which it was reached, ending in /, and how far that has come in the glob."""

    path: str
    positions: GlobPositions


class FolderSearch:
    """Finds the files below ``root``, which ends in /, whose path from there matches the parts of a glob.

    Links to folders are followed, but for those that lead to ``root`` or above it. Each file is found once, however
    many links lead to its folder, and by the path without links if there is one; a link to a file is a file of its
    own. ``on_error`` gets what the system says of each folder that is there and cannot be read.
    """

    def __init__(self, root: str, glob_parts: Sequence[str], on_error: Callable[[OSError], None]) -> None:
        self._root, self._glob_parts, self._on_error = root, glob_parts, on_error
        self._folders, self._links = deque([_Folder(root, first_positions(glob_parts))]), deque[_Folder]()
        self._searched: set[tuple[_Identity, GlobPositions]] = set()
        self._given: set[tuple[_Identity, str]] = set()

    def files(self) -> Iterator[Path]:
        """The files, in no order that counts. To be called once."""
        while self._folders or self._links:
            folder = (self._folders or self._links).popleft()
            try:
                status = os.stat(folder.path)  # noqa: PTH116 - without a Path for each of a hundred thousand
                identity = status.st_dev, status.st_ino
                if (identity, folder.positions) not in self._searched:
                    self._searched.add((identity, folder.positions))
                    yield from self._files_in(folder, identity)
            except OSError as error:
                self._report(error)

    def _files_in(self, folder: _Folder, identity: _Identity) -> Iterator[Path]:
        with os.scandir(folder.path) as entries:
            by_name = sorted(entries, key=lambda entry: entry.name)
        for entry in by_name:
            positions = after_part(folder.positions, entry.name, self._glob_parts)
            if positions and self._is_folder(entry):
                self._add(entry, positions)
            elif is_whole(positions, self._glob_parts) and (identity, entry.name) not in self._given:
                self._given.add((identity, entry.name))
                yield Path(entry.path)

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir()
        except OSError as error:  # where a link leads is not to be seen
            self._report(error)
            return False

    def _add(self, entry: os.DirEntry[str], positions: GlobPositions) -> None:
        if not entry.is_symlink():
            self._folders.append(_Folder(f"{entry.path}/", positions))
        elif not Path(os.path.realpath(self._root)).is_relative_to(os.path.realpath(entry.path)):
            self._links.append(_Folder(f"{entry.path}/", positions))

    def _report(self, error: OSError) -> None:
        if error.errno not in _NOT_THERE:
            self._on_error(error)
