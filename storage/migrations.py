"""How a library of an older schema becomes one of today's.

``MIGRATIONS[n - 1]`` takes schema n to n + 1. A migration runs under the lease and may be killed and run again, so it
must be repeatable. Readers of an older library are told to upgrade; they change nothing themselves.
"""

from __future__ import annotations

from collections.abc import Callable

from storage.schemas import CATALOG, FAILURES
from storage.stores.base import Store
from storage.tables import Tables

Migration = Callable[[Store, Tables], None]


def drop_tags_and_titles(_: Store, tables: Tables) -> None:
    """Schema 2: videos and failures without the tags and titles that nothing filled; a failure has a step of work."""
    tables.drop_columns(CATALOG, ["tags", "title"])
    tables.drop_columns(FAILURES, ["tags"])
    tables.rename_column(FAILURES, "stage", "step")


MIGRATIONS: tuple[Migration, ...] = (drop_tags_and_titles,)  # schema 1 is the first


def schema_version() -> int:
    """The schema this program reads and writes."""
    return 1 + len(MIGRATIONS)
