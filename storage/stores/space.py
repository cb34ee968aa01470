"""A full disk, reported as one clear error whichever layer met it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from tempo_core.errors import LibraryError, NoSpace

_PANICS = {"RustPanic", "PanicException"}  # classes without a module that could be imported
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # no space, over quota, over the file size limit


@contextmanager
def space_errors(location: str) -> Iterator[None]:
    """Turn an error that means "no room" into NoSpace; all others pass.

    LanceDB raises OSError or RuntimeError with the system's error only in its text, as ``(os error 28)``.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if _is_full(error):
            raise NoSpace(f"no space left at {location}: free some, or run `tempo prune` ({error})") from error
        raise


@contextmanager
def table_errors(location: str) -> Iterator[None]:
    """LanceDB's errors as one line: NoSpace, or a LibraryError with what it says."""
    try:
        with space_errors(location), _Panics():
            yield
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: of a damaged file, also text that is not UTF-8
        raise LibraryError(f"the tables at {location} failed: {str(error).splitlines()[0][:500]}") from error


class _Panics:
    """Makes a RuntimeError of a panic of LanceDB's Rust, which a damaged table causes."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and kind.__name__ in _PANICS:
            raise RuntimeError(f"LanceDB cannot read them, they are damaged ({error})") from error


def _is_full(error: OSError | RuntimeError) -> bool:
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    named = re.search(r"os error (\d+)", str(error))
    return named is not None and int(named.group(1)) in FULL
