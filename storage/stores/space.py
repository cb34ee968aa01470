"""A full disk, reported as one clear error whichever layer met it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tempo_core.errors import NoSpace

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


def _is_full(error: OSError | RuntimeError) -> bool:
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    named = re.search(r"os error (\d+)", str(error))
    return named is not None and int(named.group(1)) in FULL
