"""One LanceDB table read, and its errors as ours: each is one line that names the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from storage.stores.space import space_errors
from tempo_core.errors import LibraryError

_PANICS = {"RustPanic", "PanicException"}  # classes without a module that could be imported


@contextmanager
def table_errors(location: str) -> Iterator[None]:
    """LanceDB's errors as one line: NoSpace, or a LibraryError with what it says."""
    try:
        with space_errors(location), _Panics():
            yield
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: of a damaged file, also text that is not UTF-8
        raise LibraryError(f"LanceDB failed at {location}: {str(error).splitlines()[0][:500]}") from error


class _Panics:
    """Makes a RuntimeError of a panic of LanceDB's Rust, which a damaged table causes."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and kind.__name__ in _PANICS:
            raise RuntimeError(f"LanceDB cannot read them, they are damaged ({error})") from error


def not_listed(uri: str, name: str) -> LibraryError:
    """For a table that LanceDB does not find where it was just written."""
    return LibraryError(
        f"{uri}: the store does not list the table {name!r}, which was just written there: its listings show an "
        "earlier time, as those of a cache in front of S3 may. A library needs listings that show what was written: "
        "switch the cache off or choose another store, then run again; nothing is lost"
    )


def query(table: Any, columns: Sequence[str] | None, where: str | None = None) -> Any:
    """All rows that fit a filter, with ``columns`` or all of them."""
    asked = table.search()
    asked = asked.where(where) if where else asked
    asked = asked.select(list(columns)) if columns else asked
    return asked.limit(None)


def reads_back(table: Any, where: str | None) -> bool:
    """Whether the rows that fit ``where`` (None: the last one) can be read."""
    """A truncated data file has no footer, so any read of it fails."""
    column = table.schema.names[0]
    try:
        if where is not None:
            table.search().where(where).select([column]).limit(None).to_arrow()
        elif count := table.count_rows():
            table.take_offsets([count - 1]).select([column]).to_arrow()
    except (OSError, RuntimeError):
        return False
    return True
