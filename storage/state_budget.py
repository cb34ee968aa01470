"""States within a budget of bytes: what was asked about least recently goes first. Frames and features stay.

States are a cache of the frames, so that dropping them loses nothing but time. One commit lets the catalog's rows have
no states part any more; readers of before still find it until it is swept, after their grace period.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from storage.asked import asked_times
from storage.catalog import Catalog
from storage.filters import one_of
from storage.generations import part_generation
from storage.records import VideoRecord
from storage.schemas import CATALOG, CATALOG_SCHEMA, KEY, video_row
from storage.sweep import note_retired

PARTS_A_COMMIT = 1000  # their rows are held, and are the data of the commit


@dataclass(frozen=True)
class DroppedStates:
    """Of so many videos only frames are kept now, by so many bytes of states less."""

    videos: int
    bytes: int


@dataclass(frozen=True, slots=True)
class UsedPart:
    """A states part, and when one of its videos was asked about or indexed last (seconds of the Unix epoch)."""

    path: str
    size: int
    used_at: float


def drop_over_budget(catalog: Catalog, budget: int, check_lease: Callable[[], None]) -> DroppedStates:
    """Bring the states under ``budget`` bytes. Only under the lease, which is checked before each commit."""
    parts = over_budget(used_parts(catalog.each(), asked_times(catalog.store)), budget)
    videos: set[str] = set()
    for start in range(0, len(parts), PARTS_A_COMMIT):
        videos |= _drop(catalog, {part.path for part in parts[start : start + PARTS_A_COMMIT]}, check_lease)
    return DroppedStates(len(videos), sum(part.size for part in parts))


def used_parts(records: Iterable[VideoRecord], asked: Mapping[str, float]) -> list[UsedPart]:
    """The states parts of the catalog's rows, each once however many share it. ``asked``: times by video id."""
    parts: dict[str, UsedPart] = {}
    for record in records:
        if (part := record.states_part) is not None:
            used_at = max(record.indexed_at, asked.get(record.video_id, 0.0))
            before = parts.get(part.path)
            parts[part.path] = UsedPart(part.path, part.size, max(used_at, before.used_at if before else 0.0))
    return list(parts.values())


def over_budget(parts: Iterable[UsedPart], budget: int) -> list[UsedPart]:
    """Those to drop, in their order: as few of the least recently used as bring the rest under ``budget``."""
    oldest_first = sorted(parts, key=lambda part: (part.used_at, part.path))
    over, dropped = sum(part.size for part in oldest_first) - budget, []
    for part in oldest_first:
        if over <= 0:
            break
        dropped.append(part)
        over -= part.size
    return dropped


def _drop(catalog: Catalog, paths: Collection[str], check_lease: Callable[[], None]) -> set[str]:
    """Let no row have these parts any more, in one commit; the ids of their videos."""
    records = catalog.rows(one_of("states_path", sorted(paths)))
    note_retired(catalog.tables, {name for path in paths if (name := part_generation(path))})
    check_lease()
    rows = [video_row(replace(record, states_part=None)) for record in records]
    table = pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)
    catalog.tables.replace_values(CATALOG, [KEY, "generation"], table)  # a row that another holder replaced stays
    return {record.video_id for record in records}
