"""The LanceDB tables of a library, as plain verbs over Arrow tables. All that knows LanceDB's ways is here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa

from storage.schemas import CATALOG, CATALOG_SCHEMA, FAILURES, FAILURES_SCHEMA, KEY, RETIRED, RETIRED_SCHEMA
from storage.space import space_errors

KEYED = {CATALOG: CATALOG_SCHEMA, FAILURES: FAILURES_SCHEMA, RETIRED: RETIRED_SCHEMA}
_KEY_MARK = b"lance-schema:unenforced-primary-key"
_REOPEN_AFTER = 100  # appends through one handle: it grew by 0.4 MB each in STORAGE's measurement


class Tables:
    """One connection. Every read sees the newest commit (LanceDB's default would not look for it)."""

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        self._uri = uri
        self._options = dict(options)
        self._connection: Any = None
        self._handles: dict[str, Any] = {}
        self._appends = 0

    def names(self) -> list[str]:
        """The tables there are."""
        return sorted(self._connect().list_tables(limit=10_000).tables)

    def open(self, name: str) -> Any | None:
        """The handle of a table, None where there is none."""
        if name not in self._handles:
            if name not in self.names():
                return None
            self._handles[name] = self._connect().open_table(name)
        return self._handles[name]

    def ensure(self, name: str, schema: pa.Schema) -> Any:
        """The table, created if need be; keyed tables declare their key, without which a merge can duplicate it."""
        table = self.open(name)
        if table is None:
            with space_errors(self._uri):
                table = self._connect().create_table(name, schema=schema, exist_ok=True)
            self._handles[name] = table
        if name in KEYED and not _has_key(table.schema):
            table.set_unenforced_primary_key(KEY)
        return table

    def rows(self, name: str, where: str | None = None, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Rows as dictionaries; none where there is no such table."""
        table = self.open(name)
        if table is None:
            return []
        query = table.search()
        query = query.where(where) if where else query
        query = query.select(list(columns)) if columns else query
        return list(query.limit(None).to_arrow().to_pylist())

    def count(self, name: str) -> int:
        """Rows in a table, 0 where there is none."""
        table = self.open(name)
        return 0 if table is None else int(table.count_rows())

    def upsert(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert or replace by key, all rows in one commit."""
        table = self.ensure(name, KEYED[name])
        data = pa.Table.from_pylist([dict(row) for row in rows], schema=KEYED[name])
        with space_errors(self._uri):
            table.merge_insert(KEY).when_matched_update_all().when_not_matched_insert_all().execute(data)

    def add(self, name: str, data: pa.Table) -> None:
        """Append rows in one commit."""
        with space_errors(self._uri):
            self.ensure(name, data.schema).add(data)
        self._appends += 1
        if self._appends % _REOPEN_AFTER == 0:
            self._handles.clear()

    def delete(self, name: str, column: str, values: Iterable[str]) -> None:
        """Remove the rows whose ``column`` is one of ``values``, in one commit; nothing is committed for none."""
        wanted, table = sorted(set(values)), self.open(name)
        if table is not None and wanted and table.count_rows(one_of(column, wanted)):
            with space_errors(self._uri):
                table.delete(one_of(column, wanted))

    def drop(self, name: str) -> None:
        """Remove a whole table."""
        self._handles.pop(name, None)
        self._connect().drop_table(name, ignore_missing=True)

    def optimize(self, name: str, keep_s: float, delete_unverified: bool) -> None:
        """Compact small fragments and remove versions older than ``keep_s``.

        ``delete_unverified`` also removes what killed commits left; only for who knows that no commit is under way.
        """
        table = self.open(name)
        if table is not None:
            with space_errors(self._uri):
                table.optimize(
                    cleanup_older_than=timedelta(seconds=max(keep_s, 0.001)), delete_unverified=delete_unverified
                )

    def fragments(self, name: str) -> int:
        """Fragments of a table: what compaction brings down."""
        table = self.open(name)
        return 0 if table is None else int(table.stats()["fragment_stats"]["num_fragments"])

    def _connect(self) -> Any:
        if self._connection is None:
            import lancedb  # a second of imports: only who reads a table pays it

            self._connection = lancedb.connect(
                self._uri, storage_options=self._options or None, read_consistency_interval=timedelta(0)
            )
        return self._connection


def one_of(column: str, values: Iterable[str]) -> str:
    """The filter ``column IN (...)``, quoted."""
    return f"{column} IN ({', '.join(quoted(value) for value in values)})"


def quoted(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def _has_key(schema: pa.Schema) -> bool:
    metadata = schema.field(KEY).metadata or {}
    return any(name.startswith(_KEY_MARK) for name in metadata)
