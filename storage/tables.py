"""The LanceDB tables of a library, as plain verbs over Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import Any

import pyarrow as pa

from storage.filters import one_of
from storage.schemas import KEY, KEYED, declares_key
from storage.stores.base import Store
from storage.table_access import not_listed, query, reads_back, table_errors
from tempo_core.errors import NoSpace

_NEVER = timedelta(days=36500)
RESERVE_BYTES = 4 << 20  # left free by every commit: a row takes a few kilobytes
METADATA_CACHE_BYTES = 64 << 20  # LanceDB's default of a gigabyte fills with what each commit made of the table
_ROWS_AT_A_TIME = 4096
_ROWS_AT_ONCE = 1 << 16  # by a thousand, LanceDB's default, 100,000 rows of three columns take twice as long
_REOPEN_AFTER = 100  # commits through one handle: it was measured to grow by 0.4 MB each


class Tables:
    """One connection. Every read looks for the newest commit once, when it opens the table: asked to do so by
    itself, LanceDB looks five times for one query, which is a listing of all versions each time.

    LanceDB 0.40 does not see an error of the last write of a local data file, so a disk that fills at that moment
    commits a truncated file and the whole table becomes unreadable. Hence, where space is limited, no commit without a
    reserve, one commit at a time, and each is read back and undone if it cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self.uri, self._store = store.tables_uri, store
        self._connection: Any = None
        self._handles: dict[str, Any] = {}
        self._with_key: set[str] = set()  # tables whose declared key was seen
        self._commits = 0

    def names(self) -> list[str]:
        """The tables there are."""
        with table_errors(self.uri):
            return sorted(self._connect().list_tables(limit=10_000).tables)

    def errors(self, name: str) -> AbstractContextManager[None]:
        """Makes one line of LanceDB's errors, which names the table."""
        return table_errors(f"{self.uri}/{name}.lance")

    def open(self, name: str) -> Any | None:
        """The handle of a table as of now, None where there is none; it is not to be kept.

        There is none either where only its folder exists: its creation was cut short before its first commit.
        """
        table = self._handles.get(name)  # looked up once: another thread may clear them
        with self.errors(name):
            if table is not None:
                table.checkout_latest()
            else:
                with suppress(ValueError):  # LanceDB's "was not found"
                    table = self._handles[name] = self._connect().open_table(name)
        return table

    def ensure(self, name: str, schema: pa.Schema | None = None) -> Any:
        """The table, created if need be: with ``schema``, or as one of the keyed tables.

        A keyed table declares its key: without that, two merges of one new key can commit it twice.
        """
        table = self.open(name)
        with self.errors(name):
            if table is None:
                table = self._handles[name] = self._created(name, KEYED.get(name, schema))
            if name in KEYED and name not in self._with_key:
                if not declares_key(table.schema):
                    table.set_unenforced_primary_key(KEY)
                self._with_key.add(name)
        return table

    def _created(self, name: str, schema: pa.Schema | None) -> Any:
        """LibraryError where the store does not show it: such a one would lose each commit in turn."""
        try:
            self._connect().create_table(name, schema=schema, exist_ok=True)
            return self._connect().open_table(name)
        except ValueError as error:
            if "was not found" not in str(error):
                raise
            raise not_listed(self.uri, name) from error

    def rows(self, name: str, where: str | None = None, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Rows as dictionaries; none where there is no such table."""
        found = self.columns(name, columns, where)
        return [] if found is None else list(found.to_pylist())

    def batches(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, a few thousand at a time; none where there is no such table."""
        table = self.open(name)
        if table is not None:
            with self.errors(name):
                yield from query(table, columns).to_batches(_ROWS_AT_A_TIME)

    def columns(self, name: str, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table | None:
        """Rows, with ``columns`` or all of them, as Arrow columns; None where there is no such table."""
        table = self.open(name)
        with self.errors(name):
            return None if table is None else query(table, columns, where).to_batches(_ROWS_AT_ONCE).read_all()

    def has(self, name: str, where: str) -> bool:
        """Whether any row fits a filter; the table is read up to the first that does."""
        table = self.open(name)
        with self.errors(name):
            return table is not None and len(table.search().where(where).select([KEY]).limit(1).to_arrow()) > 0

    def count(self, name: str, where: str | None = None) -> int:
        """Rows of a table that fit a filter, 0 where there is none."""
        table = self.open(name)
        with self.errors(name):
            return 0 if table is None else int(table.count_rows(where))

    def version(self, name: str) -> int | None:
        """The number of the newest commit, None where there is no table."""
        table = self.open(name)
        with self.errors(name):
            return None if table is None else int(table.version)

    def upsert(self, name: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Insert or replace by key, all rows in one commit; the number of that commit."""
        data = pa.Table.from_pylist([dict(row) for row in rows], schema=KEYED[name])
        where = one_of(KEY, data[KEY].to_pylist())
        with self._commit(self.ensure(name), data.nbytes, where) as table:
            merge = table.merge_insert(KEY).when_matched_update_all().when_not_matched_insert_all()
            version = int(merge.execute(data).version)
        self._count_commit()
        return version

    def add(self, name: str, data: pa.Table) -> None:
        """Append rows in one commit."""
        with self._commit(self.ensure(name, data.schema), data.nbytes) as table:
            table.add(data)
        self._count_commit()

    def delete(self, name: str, column: str, values: Iterable[str]) -> None:
        """Remove the rows whose ``column`` is one of ``values``, in one commit; nothing is committed for none."""
        distinct = sorted(set(values))
        table = self.open(name) if distinct else None
        where = one_of(column, distinct)
        with self.errors(name):  # no data file is written, and a full disk is where room must be made
            if table is not None and table.count_rows(where):
                table.delete(where)

    def drop_columns(self, name: str, columns: Iterable[str]) -> None:
        """Remove those of ``columns`` that the table has, in one commit; nothing is rewritten."""
        table = self.open(name)
        present = [] if table is None else [column for column in columns if column in table.schema.names]
        if table is not None and present:
            with self._store.commit_lock(), self.errors(name):
                table.drop_columns(present)

    def add_column(self, name: str, column: str, value: str) -> None:
        """Add a column with one value, an SQL expression, in all rows, unless it is there; nothing is rewritten."""
        table = self.open(name)
        if table is not None and column not in table.schema.names:
            with self._store.commit_lock(), self.errors(name):
                table.add_columns({column: value})

    def replace_values(self, name: str, keys: Sequence[str], data: pa.Table) -> None:
        """Replace columns in the rows whose ``keys`` are those of ``data``, in one commit; no other row is touched."""
        with self._commit(self.ensure(name), data.nbytes) as table:
            table.merge_insert(list(keys)).when_matched_update_all().execute(data)

    def rename_column(self, name: str, column: str, new_name: str) -> None:
        """Rename a column where the table has it; nothing is rewritten."""
        table = self.open(name)
        if table is not None and column in table.schema.names:
            with self._store.commit_lock(), self.errors(name):
                table.alter_columns({"path": column, "rename": new_name})

    def drop(self, name: str) -> None:
        """Remove a whole table."""
        self._handles.pop(name, None)
        self._with_key.discard(name)
        with self.errors(name):
            self._connect().drop_table(name, ignore_missing=True)

    def optimize(self, name: str, keep_s: float, delete_unverified: bool) -> None:
        """Compact small fragments, then remove versions older than ``keep_s``.

        ``delete_unverified`` also removes what killed commits left; only where no commit can be under way.
        """
        table = self.open(name)
        if table is None:
            return
        with self._commit(table, int(table.stats()["total_bytes"]), where="true"):
            table.optimize(cleanup_older_than=_NEVER)  # nothing is lost yet if the compacted files are cut short
        with self._store.commit_lock(), self.errors(name):  # a killed run's actors may live a moment longer
            keep = timedelta(seconds=max(keep_s, 0.001))
            table.optimize(cleanup_older_than=keep, delete_unverified=delete_unverified)

    def indexed_columns(self, name: str) -> set[str]:
        """The columns of the table that have an index."""
        table = self.open(name)
        with self.errors(name):
            return set() if table is None else {column for index in table.list_indices() for column in index.columns}

    def index_pieces(self, name: str, column: str) -> int:
        """The pieces that a column's index consists of: each ``optimize`` adds one for new rows. 0 without an index."""
        table = self.open(name)
        if table is None:
            return 0
        with self.errors(name):
            names = [index.name for index in table.list_indices() if column in index.columns]
            return sum(table.index_stats(index).num_indices or 0 for index in names)

    def build_vector_index(self, name: str, column: str) -> None:
        """An approximate index by cosine: 1 bit a number, re-ranked by the exact vectors when asked."""
        from lancedb.index import IvfRq

        self._build_index(name, column, IvfRq(distance_type="cosine"))

    def build_value_index(self, name: str, column: str) -> None:
        """A sorted index for filters by value. Never on a declared key: merges would insert duplicates again."""
        from lancedb.index import BTree

        self._build_index(name, column, BTree())

    def _build_index(self, name: str, column: str, config: Any) -> None:
        table = self.ensure(name)
        with self._commit(table, int(table.stats()["total_bytes"])):
            table.create_index(column, config=config)

    def fragments(self, name: str) -> int:
        """Fragments of a table: what compaction brings down."""
        table = self.open(name)
        with self.errors(name):
            return 0 if table is None else int(table.stats()["fragment_stats"]["num_fragments"])

    def _count_commit(self) -> None:
        self._commits += 1
        if self._commits % _REOPEN_AFTER == 0:
            self._handles.clear()

    @contextmanager
    def _commit(self, table: Any, size: int, where: str | None = None) -> Iterator[Any]:
        """Around one commit of about ``size`` bytes: NoSpace before, or after it was undone.

        What is read back: the rows that fit ``where``, else the last one (its data file is then the new one).
        """
        room = self._store.free_bytes()
        if room is not None and room < RESERVE_BYTES + 2 * size:
            raise NoSpace(f"only {room} bytes are free at {self.uri}: free some, or run `tempo prune`")
        with self._store.commit_lock():
            with self.errors(table.name):
                table.checkout_latest()  # others may have committed while the lock was waited for
                before = table.version
                yield table
            if room is not None and not reads_back(table, where):
                with self.errors(table.name):
                    table.restore(before)
                raise NoSpace(f"no space left at {self.uri}: the last commit was cut short and undone; free some")

    def _connect(self) -> Any:
        if self._connection is None:
            import lancedb  # a second of imports, which only a reader of tables pays

            self._store.check_tables()
            self._connection = lancedb.connect(
                self.uri,
                session=lancedb.Session(metadata_cache_size_bytes=METADATA_CACHE_BYTES),
                storage_options=dict(self._store.table_options) or None,
            )
        return self._connection
