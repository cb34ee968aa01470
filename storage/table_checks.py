"""Whether questions find in the tables what lies in them: they ask by filter and by indexes, which may be damaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from storage.catalog import Catalog
from storage.filters import one_of
from storage.records import TimeRange, VideoRecord
from storage.row_checks import VECTOR
from storage.schemas import CATALOG, FAILURES, failure_record, segments_table
from storage.search import search_segments
from storage.status import Problem
from storage.stores.base import TABLES_FOLDER
from tempo_core.errors import LibraryError

COPY = "put the library back from a copy, or index the sources into a new one"
_AT_A_TIME = 500  # generations in one filter
_ITSELF = 0.999  # the least similarity of a feature to itself, as the search computes it
_PAIR = ["generation", "index"]


@contextmanager
def reported(problems: list[Problem], table: str) -> Iterator[None]:
    """Makes a problem of an error that reading a table raises, so that what lies elsewhere is checked too."""
    try:
        yield
    except LibraryError as error:
        problems.append(_problem(table, f"it cannot be read: {error}; {COPY}"))
    except (KeyError, TypeError, ValueError) as error:  # no such column, another type, no text
        problems.append(_problem(table, f"it is damaged or not tempo's: {error!r}; {COPY}"))


def check_answers(catalog: Catalog, records: Sequence[VideoRecord]) -> list[Problem]:
    """Asks the tables as questions and runs do, and compares with ``records``: all rows of the catalog, read whole."""
    problems: list[Problem] = []
    by_model: dict[str, list[VideoRecord]] = defaultdict(list)
    for record in records:
        by_model[record.fingerprints.features].append(record)
    for features, under in by_model.items():
        with reported(problems, CATALOG):
            if catalog.videos(features) != under or _committed(catalog, under) != _generations(under):
                problems.append(_unlike(CATALOG))
        with reported(problems, segments_table(features)):
            if not (_finds_rows(catalog, features, under) and _finds_nearest(catalog, features, under)):
                problems.append(_unlike(segments_table(features)))
    with reported(problems, FAILURES):
        for row in catalog.tables.rows(FAILURES):
            failure_record(row)
    return problems


def _problem(table: str, reason: str) -> Problem:
    return Problem(f"{TABLES_FOLDER}/{table}", reason)


def _unlike(table: str) -> Problem:
    return _problem(table, f"a question finds other rows in it than lie there: an index of it is damaged; {COPY}")


def _generations(records: Sequence[VideoRecord]) -> set[str]:
    return {record.generation for record in records}


def _portions(records: Sequence[VideoRecord]) -> Iterator[list[str]]:
    """Their generations, as many at a time as are asked for at once."""
    names = sorted(_generations(records))
    return (names[start : start + _AT_A_TIME] for start in range(0, len(names), _AT_A_TIME))


def _committed(catalog: Catalog, records: Sequence[VideoRecord]) -> set[str]:
    """Those of their generations that a search finds committed."""
    return {name for names in _portions(records) for name in catalog.committed(names)}


def _finds_rows(catalog: Catalog, features: str, records: Sequence[VideoRecord]) -> bool:
    """Whether the segments of each generation are found by its name."""
    tables, name = catalog.tables, segments_table(features)
    kept = _generations(records)
    whole = sorted(pair for pair in _pairs(tables.columns(name, _PAIR)) if pair[0] in kept)
    asked = (tables.columns(name, _PAIR, one_of("generation", names)) for names in _portions(records))
    return sorted(pair for rows in asked for pair in _pairs(rows)) == whole


def _pairs(rows: pa.Table | None) -> list[tuple[str, int]]:
    return [] if rows is None else list(zip(*(rows[column].to_pylist() for column in _PAIR), strict=True))


def _finds_nearest(catalog: Catalog, features: str, records: Sequence[VideoRecord]) -> bool:
    """Whether a search, which goes through all of an index of features, finds a segment by its own feature."""
    own = one_of("generation", [records[0].generation])
    rows = catalog.tables.columns(segments_table(features), [VECTOR], own)
    if rows is None or not len(rows):
        return True  # that its rows are missing is another problem
    vector = rows[VECTOR].combine_chunks().flatten().to_numpy()[: rows[VECTOR].type.list_size]
    hits = search_segments(catalog, features, vector, 1, None, TimeRange())
    return bool(hits) and hits[0].score >= _ITSELF
