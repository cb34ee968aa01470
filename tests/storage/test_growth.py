"""What must not grow with the library: checks and removals read what they need, tables stay in few pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from storage import Library, search, sweep
from storage.schemas import CATALOG, FAILURES, SEGMENTS_PREFIX, segment_rows, segments_table
from storage.tables import Tables
from tests.support.storage_harness import FEATURES, PRINTS, commit, facts_of, index, put, source_of, stage, tiny_video

SEGMENTS = segments_table(PRINTS.features)


@pytest.fixture
def library(library: Library) -> Library:
    index(library, {f"/{seed}": seed for seed in range(4)})
    return library


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Each read of a table so far: the verb, the table, and how many rows came back."""
    log: list[tuple[str, str, int]] = []

    def logged(verb: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(tables: Tables, name: str, *args: Any, **options: Any) -> Any:
            result = real(tables, name, *args, **options)
            result = list(result) if verb == "batches" else result
            rows = sum(map(len, result)) if verb == "batches" else len(result if result is not None else ())
            log.append((verb, name, rows))
            return result

        return call

    for verb in ("rows", "columns", "batches"):
        monkeypatch.setattr(Tables, verb, logged(verb, getattr(Tables, verb)))
    return log


def test_verify_reads_the_segments_in_as_many_queries_whatever_the_number_of_videos(
    library: Library, reads: list[tuple[str, str, int]]
) -> None:
    def queries() -> Counter[str]:
        reads.clear()
        assert library.verify() == []
        return Counter(name for _, name, _ in reads if name.startswith(SEGMENTS_PREFIX))

    few = queries()
    index(library, {f"/{seed}": seed for seed in range(12)})
    assert queries() == few


def test_verify_names_a_segment_without_a_usable_feature_and_one_that_is_missing(library: Library) -> None:
    video = tiny_video(50)
    video.features[1] = 0
    with library.writer() as writer:
        commit(writer, stage(library, video), source_of("/zero", 50), facts_of(video))
        lost = put(library, writer, "/lost", 51)
    table = library.tables.open(SEGMENTS)
    assert table is not None
    table.delete(f"generation = '{lost.generation}' AND index = 1")
    problems = {(problem.subject, problem.reason.split(";")[0]) for problem in library.verify()}
    assert problems == {
        ("/zero", "segment 1 has no usable feature"),
        ("/lost", "/lost: 2 of 3 segments found"),
    }


def test_removing_a_video_reads_no_whole_row_of_another(library: Library, reads: list[tuple[str, str, int]]) -> None:
    index(library, {"/broken": -1, "/lost": -2})
    reads.clear()
    with library.writer() as writer:
        writer.remove(library.sources(["2", "broken"]))
    whole = Counter[str]()  # names are looked for among all, in two columns
    for verb, name, rows in reads:
        whole[name] += rows if verb != "columns" else 0
    assert whole[CATALOG] == 2, "one to know its URI, one to remove it"
    assert whole[FAILURES] <= 2
    assert [record.uri for record in library.videos()] == ["/0", "/1", "/3"]


def test_a_year_of_nights_leaves_an_index_and_a_table_in_few_pieces(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "INDEX_FROM_ROWS", 256)
    monkeypatch.setattr(sweep, "MOST_INDEX_PIECES", 3)
    segments = library.segments(library.videos()[0])
    many = np.random.default_rng(0).normal(size=(300, FEATURES)).astype(np.float32)
    library.tables.add(SEGMENTS, segment_rows(segments[:1] * len(many), many, 0.0))
    for night in range(8):
        with library.writer() as writer:
            put(library, writer, f"/night/{night}", 100 + night)
            writer.optimize()
        assert 1 <= library.tables.index_pieces(SEGMENTS, "vector") <= 5
        assert library.tables.fragments(SEGMENTS) <= 5
    assert library.tables.count(CATALOG) == 12
