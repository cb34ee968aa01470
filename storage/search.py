"""Candidates for a question over many videos: the nearest features among the committed segments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.catalog import Catalog
from storage.filters import one_of
from storage.records import FeatureArray, SegmentHit, TimeRange, VideoRecord
from storage.schemas import CATALOG, SEGMENT_COLUMNS, segment_record, segments_table
from storage.tables import Tables

INDEX_FROM_ROWS = 100_000  # brute force takes 0.2 s there (1,024 numbers), the index 10 ms
REFINE_FACTOR = 10  # re-rank ten times the limit by their exact distance: recall 0.99 at a million
CATALOG_INDEX_FROM_ROWS = 10_000  # at 100,000 it halves the look-up of the hits: 13 ms instead of 23
MOST_LISTED = 1000  # generations in a filter, times their share of all: each costs, and so does each row in excess
SURPLUS = 1.5  # rows asked for in place of such a filter, of those that would do if all folders were alike
FEW_VIDEOS = 100  # a filter on so few is answered sooner and exactly without the index


def search_segments(
    catalog: Catalog,
    fingerprint: str,
    vector: FeatureArray,
    limit: int,
    videos: Sequence[VideoRecord] | None,
    times: TimeRange,
    beginnings: Sequence[str] = (),
) -> list[SegmentHit]:
    """The ``limit`` nearest committed segments, best first; fewer only where there are no more.

    Of ``videos`` (None: all, or those with a source that begins with one of ``beginnings``) and within ``times``: all
    filter the query, but for a folder of many videos, which filters the rows found. Over all videos, the catalog is
    asked about the generations of the rows found only. Rows of a generation that is not committed are left out, and
    the query is made again: with a larger limit where too few are left, and once in any case, because a commit between
    query and look-up turns a generation that was found into one that is retired.
    """
    tables, name = catalog.tables, segments_table(fingerprint)
    named = None if videos is None else {video.generation: video for video in reversed(videos)}
    asked, not_committed = limit, set[str]()
    while limit > 0 and named != {}:
        if named is None and beginnings:
            nearest = _nearest_below(catalog, fingerprint, beginnings, vector, asked, times)
        else:
            nearest = _nearest(tables, name, vector, asked, None if named is None else sorted(named), times)
        rows = nearest.to_pylist()
        generations = {row["generation"] for row in rows}
        committed = catalog.committed(generations, beginnings) if named is None else named
        hits = [_hit(row, committed[row["generation"]]) for row in rows if row["generation"] in committed]
        left_out = generations - committed.keys()
        if left_out <= not_committed and (len(hits) >= limit or len(rows) < asked):
            return hits[:limit]
        not_committed |= left_out
        if len(hits) < limit and len(rows) >= asked:
            asked *= 4
    return []


def build_indexes(tables: Tables, name: str) -> None:
    """Index what questions look for in the catalog or a segments table, once it is large."""
    is_catalog = name == CATALOG
    if tables.count(name) < (CATALOG_INDEX_FROM_ROWS if is_catalog else INDEX_FROM_ROWS):
        return
    indexed = tables.indexed_columns(name)
    if "generation" not in indexed:  # the segments of one video at a million: 15 ms instead of 150
        tables.build_value_index(name, "generation")
    if not is_catalog and "vector" not in indexed:
        tables.build_vector_index(name, "vector")


def _nearest(
    tables: Tables,
    name: str,
    vector: FeatureArray,
    limit: int,
    generations: Sequence[str] | None,
    times: TimeRange,
) -> pa.Table:
    """Rows nearest to ``vector`` by cosine, of ``generations`` (None: of all); fewer only where no others fit."""
    table = tables.open(name)
    with tables.errors(name):
        present = 0 if table is None or generations == [] else table.count_rows()
    if table is None or not present:
        return pa.table({"generation": pa.array([], pa.string())})
    with tables.errors(name):  # the table's schema is read
        query = table.search(np.asarray(vector, np.float32), vector_column_name="vector")
    query = query.distance_type("cosine").refine_factor(REFINE_FACTOR)
    if where := " AND ".join(_conditions(generations, times)):
        query = query.where(where, prefilter=True)
    if generations is not None and len(generations) <= FEW_VIDEOS:
        query = query.bypass_vector_index()
    else:
        query = query.maximum_nprobes(0)  # all: the default probes find a quarter at a million, or come back short
    with tables.errors(name):
        return query.select([*SEGMENT_COLUMNS, "_distance"]).limit(min(limit, present)).to_arrow()


def _nearest_below(
    catalog: Catalog, fingerprint: str, beginnings: Sequence[str], vector: FeatureArray, limit: int, times: TimeRange
) -> pa.Table:
    """At least ``limit`` rows nearest to ``vector``, of videos below a folder; fewer only where no others fit.

    A filter by very many generations takes long. Those of so large a folder are looked for among more of the nearest
    rows of all, and in a filter only where these are not enough.
    """
    tables, name = catalog.tables, segments_table(fingerprint)
    count, share = catalog.share_below(fingerprint, beginnings)
    if count * share > MOST_LISTED:
        asked = math.ceil(SURPLUS * limit / share)
        nearest = _nearest(tables, name, vector, asked, None, times)
        found = nearest["generation"].unique().to_pylist()
        inside = catalog.generations_below(fingerprint, beginnings, found or [""])
        below = nearest.filter(pc.is_in(nearest["generation"], inside))
        if len(below) >= limit or len(nearest) < asked:
            return below
    listed = set(catalog.generations_below(fingerprint, beginnings).to_pylist()) if count else set[str]()
    return _nearest(tables, name, vector, limit, sorted(listed), times)


def _conditions(generations: Sequence[str] | None, times: TimeRange) -> list[str]:
    conditions = [] if generations is None else [one_of("generation", generations)]
    if times.from_s is not None:
        conditions.append(f"video_start_s + end_s > CAST('{times.from_s!r}' AS DOUBLE)")
    if times.to_s is not None:
        conditions.append(f"video_start_s + start_s < CAST('{times.to_s!r}' AS DOUBLE)")
    return conditions


def _hit(row: Mapping[str, Any], video: VideoRecord) -> SegmentHit:
    return SegmentHit(video, segment_record(row), 1.0 - row["_distance"])
