"""Candidates for a question over many videos: the nearest features among the committed segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from storage.records import FeatureArray, SegmentHit, VideoRecord
from storage.schemas import segments_table
from storage.stores.space import table_errors
from storage.tables import Tables, one_of

INDEX_FROM_ROWS = 100_000  # brute force takes 0.2 s there (1,024 numbers), the index 10 ms
REFINE_FACTOR = 10  # re-rank ten times the wanted rows by their exact distance: recall 0.99 at a million
FEW_VIDEOS = 100  # a filter on so few is answered sooner and exactly without the index
_COLUMNS = ["video_id", "generation", "index", "start_s", "end_s", "_distance"]


def search_segments(
    tables: Tables, fingerprint: str, vector: FeatureArray, limit: int, videos: Sequence[VideoRecord], some: bool
) -> list[SegmentHit]:
    """The ``limit`` nearest segments of ``videos``, best first; fewer only where there are no more.

    ``videos`` is the catalog's answer; ``some``: it is a selection, so the table is filtered by it. Rows of other
    generations (retired, or not yet committed) are left out after the query, which then asks for more.
    """
    name = segments_table(fingerprint)
    committed = {video.generation for video in videos}
    present = tables.count(name)
    ask = limit
    while committed and present and limit > 0:
        rows = _nearest(tables, name, vector, min(ask, present), sorted(committed) if some else None)
        hits = [_hit(row) for row in rows if row["generation"] in committed]
        if len(hits) >= limit or len(rows) < ask:
            return hits[:limit]
        ask *= 4
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
    query = (
        tables.ensure(name).search(np.asarray(vector, np.float32), vector_column_name="vector").distance_type("cosine")
    )
    if generations is not None:
        query = query.where(one_of("generation", generations), prefilter=True)
        # With the default probes a filtered query comes back short, silently.
        query = query.bypass_vector_index() if len(generations) <= FEW_VIDEOS else query.maximum_nprobes(0)
    with table_errors(tables.uri):
        rows: list[dict[str, Any]] = query.refine_factor(REFINE_FACTOR).select(_COLUMNS).limit(limit).to_list()
    return rows


def _hit(row: dict[str, Any]) -> SegmentHit:
    return SegmentHit(row["video_id"], row["index"], row["start_s"], row["end_s"], 1.0 - row["_distance"])
