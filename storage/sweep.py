"""What nobody refers to any more, removed: rows before files, and nothing younger than a grace period.

A generation is as old as the later of its begin (its name tells) and the time it was retired (a table tells). So what
is being written has the grace period to be committed in, and readers that took the catalog just before a commit still
find its rows and parts for as long.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from storage.asked import forget_asked
from storage.catalog import Catalog
from storage.generations import generation_time, part_generation
from storage.schemas import CATALOG, RETIRED, SEGMENTS_PREFIX, segments_table
from storage.search import build_indexes
from storage.stores.base import PARTS_FOLDER, FileInfo
from storage.tables import Tables
from tempo_core.errors import NoSpace

DEFAULT_GRACE_S = 3600.0
READ_S = 60.0  # longer than one read of a table takes
S3_READ_S = 600.0
MOST_INDEX_PIECES = 30  # each night adds one; to build the index of a million rows anew takes minutes
MOST_APPENDS = 500  # fragments of a segments table before it is compacted within a run: it is large, and is indexed


def sweep(catalog: Catalog, grace_s: float) -> int:
    """Free what no catalog row needs and nobody can have needed for ``grace_s``; the bytes freed."""
    store, tables = catalog.store, catalog.tables
    before = sum(file.size for file in store.files(""))
    oldest = time.time() - grace_s
    times = retired_times(tables)

    def is_old(generation: str) -> bool:
        return last_needed(generation, times) <= oldest

    def sweep_rows() -> None:
        for fingerprint, generations in unreferenced_rows(catalog).items():
            tables.delete(segments_table(fingerprint), "generation", filter(is_old, generations))
            if not catalog.generations(fingerprint) and not tables.count(segments_table(fingerprint)):
                tables.drop(segments_table(fingerprint))

    with suppress(NoSpace):  # then the files make room for it
        sweep_rows()
    for file in unreferenced_files(catalog):
        if file_last_needed(file, times) <= oldest:
            store.delete(file.path)
    store.discard_uploads(oldest)
    forget_asked(store, {record.video_id for record in catalog.records()})
    sweep_rows()
    tables.delete(RETIRED, "key", filter(is_old, times))
    optimize_tables(tables, grace_s, store.exclusive)
    return max(0, before - sum(file.size for file in store.files("")))


def optimize_tables(tables: Tables, keep_s: float, exclusive: bool) -> None:
    """Compact all tables, drop their old versions, index features where it pays.

    What killed commits left is removed at once where the lease is ``exclusive``; elsewhere LanceDB takes a week.
    """
    for name in tables.names():
        with suppress(NoSpace):  # it can wait for room
            if name == CATALOG or name.startswith(SEGMENTS_PREFIX):
                _index(tables, name)
            tables.optimize(name, keep_s, delete_unverified=exclusive)


def _index(tables: Tables, name: str) -> None:
    build_indexes(tables, name)
    if name != CATALOG and tables.index_pieces(name, "vector") > MOST_INDEX_PIECES:
        tables.build_vector_index(name, "vector")  # only fragments of one piece are compacted together


def compact_tables(tables: Tables, exclusive: bool) -> None:
    """Compact those tables that have many fragments, within a run: other processes go on staging and reading meanwhile.

    Old versions go sooner than at its end, because each commit lists them all: what a reader takes from a table it
    takes at once, whereas rows and parts of retired generations stay for the grace period.
    """
    keep_s = READ_S if exclusive else S3_READ_S
    for name in tables.names():
        most = MOST_APPENDS if name.startswith(SEGMENTS_PREFIX) else 1
        with suppress(NoSpace):  # it can wait for room
            if tables.fragments(name) > most:
                tables.optimize(name, keep_s, delete_unverified=exclusive)


def note_retired(tables: Tables, generations: Collection[str]) -> None:
    """They are given up now, or something of them is: readers may stand on it for a grace period after."""
    if generations:
        tables.upsert(RETIRED, [{"key": name, "retired_at": time.time()} for name in sorted(generations)])


def retired_times(tables: Tables) -> dict[str, float]:
    """When generations were given up, in seconds of the Unix epoch."""
    return {row["key"]: row["retired_at"] for row in tables.rows(RETIRED)}


def last_needed(generation: str, retired: Mapping[str, float]) -> float:
    """Until when somebody may have been writing or reading what is not in the catalog."""
    return max(generation_time(generation), retired.get(generation, 0.0))


def file_last_needed(file: FileInfo, retired: Mapping[str, float]) -> float:
    """The same of a file: that of its generation; the time of a file that is no part is its own."""
    generation = part_generation(file.path)
    return file.modified if generation is None else last_needed(generation, retired)


def unreferenced_rows(catalog: Catalog) -> dict[str, list[str]]:
    """Per features fingerprint with a segments table, the generations in it that no catalog row names."""
    unreferenced = {}
    for name in catalog.tables.names():
        if name.startswith(SEGMENTS_PREFIX):
            fingerprint = name.removeprefix(SEGMENTS_PREFIX)
            rows = catalog.tables.columns(name, ["generation"])
            present = set() if rows is None else set(rows["generation"].unique().to_pylist())
            unreferenced[fingerprint] = sorted(present - catalog.generations(fingerprint))
    return unreferenced


def unreferenced_files(catalog: Catalog) -> list[FileInfo]:
    """Files under parts/ that no catalog row names, staged ones included."""
    referenced = {part.path for record in catalog.records() for part in record.parts}
    return [file for file in catalog.store.files(PARTS_FOLDER) if file.path not in referenced]
