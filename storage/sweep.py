"""What nobody refers to any more, found and removed: rows before files, and nothing younger than a grace period.

A generation is as old as the later of its begin (its name tells) and the time it was retired (a table tells): readers
that took the catalog just before still find its rows and parts for the grace period.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from storage.generations import generation_time, part_generation
from storage.records import VideoRecord
from storage.schemas import CATALOG, RETIRED, SEGMENTS_PREFIX, segments_table, video_record
from storage.search import build_index
from storage.stores.base import PARTS_FOLDER, FileInfo, Store
from storage.tables import Tables
from tempo_core.errors import NoSpace

DEFAULT_GRACE_S = 3600.0


LOST_CATALOG = (
    "the table of videos is gone although videos were committed: tables/ was deleted or damaged. Put it back from a "
    "copy, or index the sources again"
)


def catalog_is_lost(default: str | None, tables: Tables) -> bool:
    """A default is set only once the catalog's table exists (``Writer``): without it, no part tells whose it is."""
    return default is not None and tables.open(CATALOG) is None


def sweep(store: Store, tables: Tables, grace_s: float, begun: set[str]) -> int:
    """Free what no catalog row needs; ``begun``: generations now being written. Bytes freed."""
    before = sum(file.size for file in store.files(""))
    oldest = time.time() - grace_s
    catalog = catalog_records(tables)
    times = retired_times(tables)

    def is_old(generation: str) -> bool:
        return generation not in begun and last_needed(generation, times) <= oldest

    def sweep_rows() -> None:
        for fingerprint, generations in unreferenced_rows(tables, catalog).items():
            tables.delete(segments_table(fingerprint), "generation", filter(is_old, generations))
            _drop_if_unused(tables, fingerprint, catalog)

    with suppress(NoSpace):  # then the files make room for it
        sweep_rows()
    for file in unreferenced_files(store, catalog):
        generation = part_generation(file.path) or ""
        if generation not in begun and last_needed(generation, times, file.modified) <= oldest:
            store.delete(file.path)
    store.discard_uploads(oldest)
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
            if name.startswith(SEGMENTS_PREFIX):
                build_index(tables, name)
            tables.optimize(name, keep_s, delete_unverified=exclusive)


def retired_times(tables: Tables) -> dict[str, float]:
    """When generations were given up, in seconds of the Unix epoch."""
    return {row["key"]: row["retired_at"] for row in tables.rows(RETIRED)}


def last_needed(generation: str, retired: Mapping[str, float], modified: float = 0.0) -> float:
    """Until when somebody may have been writing or reading what is not in the catalog.

    ``generation`` is empty for a file that is no part; then ``modified``, its own time, tells.
    """
    return max(generation_time(generation), retired.get(generation, 0.0)) if generation else modified


def catalog_records(tables: Tables) -> list[VideoRecord]:
    """The whole catalog, of all models."""
    return [video_record(row) for row in tables.rows(CATALOG)]


def unreferenced_rows(tables: Tables, catalog: Iterable[VideoRecord]) -> dict[str, list[str]]:
    """Per features fingerprint with a segments table, the generations in it that no catalog row names."""
    named = {(record.fingerprints.features, record.generation) for record in catalog}
    found = {}
    for name in tables.names():
        if name.startswith(SEGMENTS_PREFIX):
            fingerprint = name.removeprefix(SEGMENTS_PREFIX)
            held = {row["generation"] for row in tables.rows(name, columns=["generation"])}
            found[fingerprint] = sorted(one for one in held if (fingerprint, one) not in named)
    return found


def unreferenced_files(store: Store, catalog: Iterable[VideoRecord]) -> list[FileInfo]:
    """Files under parts/ that no catalog row names, staged ones included."""
    named = {part.path for record in catalog for part in (record.frames_part, record.states_part)}
    return [file for file in store.files(PARTS_FOLDER) if file.path not in named]


def _drop_if_unused(tables: Tables, fingerprint: str, catalog: Iterable[VideoRecord]) -> None:
    name = segments_table(fingerprint)
    if all(record.fingerprints.features != fingerprint for record in catalog) and not tables.count(name):
        tables.drop(name)
