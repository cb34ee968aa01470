"""Candidates for a question over many videos: the nearest features among the committed segments."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from storage.records import FeatureArray, SegmentHit
from storage.schemas import segments_table
from storage.stores.space import table_errors
from storage.tables import Tables, one_of

INDEX_FROM_ROWS = 100_000  # brute force takes 0.2 s there (1,024 numbers), the index 10 ms
REFINE_FACTOR = 10  # re-rank ten times the limit by their exact distance: recall 0.99 at a million
FEW_VIDEOS = 100  # a filter on so few is answered sooner and exactly without the index
_COLUMNS = ["video_id", "generation", "index", "start_s", "end_s", "_distance"]


def search_segments(
    tables: Tables, fingerprint: str, vector: FeatureArray, limit: int, committed: Collection[str], filtered: bool
) -> list[SegmentHit]:
    """The ``limit`` nearest segments of the ``committed`` generations, best first; fewer only where there are no more.

    ``filtered``: they are some of all that are committed, so LanceDB filters by them. Otherwise there is no filter
    (one over every generation costs more than the search): rows of retired generations, or of those not yet committed,
    are left out after the query, which then asks for more.
    """
    name = segments_table(fingerprint)
    present = tables.count(name)
    generations = sorted(committed) if filtered else None
    asked = limit
    while committed and present and limit > 0:
        rows = _nearest(tables, name, vector, min(asked, present), generations)
        hits = [_hit(row) for row in rows if row["generation"] in committed]
        if len(hits) >= limit or len(rows) < asked:
            return hits[:limit]
        asked *= 4
    return []


def build_index(tables: Tables, name: str) -> bool:
    """Index the features of a segments table once it is large; whether one was built now."""
    if tables.count(name) < INDEX_FROM_ROWS or tables.is_indexed(name):
        return False
    tables.build_index(name, "vector")
    return True


def _nearest(
    tables: Tables, name: str, vector: FeatureArray, limit: int, generations: Sequence[str] | None
) -> list[dict[str, Any]]:
    query = tables.ensure(name).search(np.asarray(vector, np.float32), vector_column_name="vector")
    query = query.distance_type("cosine").refine_factor(REFINE_FACTOR)
    if generations is not None:
        query = query.where(one_of("generation", generations), prefilter=True)
    if generations is not None and len(generations) <= FEW_VIDEOS:
        query = query.bypass_vector_index()
    else:
        query = query.maximum_nprobes(0)  # all: the default probes find a quarter at a million, or come back short
    with table_errors(tables.uri):
        rows: list[dict[str, Any]] = query.select(_COLUMNS).limit(limit).to_list()
    return rows


def _hit(row: dict[str, Any]) -> SegmentHit:
    return SegmentHit(row["video_id"], row["index"], row["start_s"], row["end_s"], 1.0 - row["_distance"])
