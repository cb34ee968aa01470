"""Candidates by their features: exact in a small library, never short where a selection is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lancedb.index import IvfRq
from lancedb.query import LanceVectorQueryBuilder

from storage import Library, TimeRange, VideoRecord, open_library, search
from storage.catalog import Catalog
from storage.library import EVER
from storage.schemas import CATALOG
from tests.support.storage_harness import (
    FEATURES,
    PRINTS,
    commit,
    cut_short,
    facts_of,
    index,
    note_catalog_rows,
    source_of,
    stage,
    tiny_video,
)

VIDEOS, SEGMENTS, PARTITIONS = 12, 30, 64
LATE_S = 1000.1  # where a player starts every third video


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = open_library(str(tmp_path_factory.mktemp("search") / "library"), create=True)
    with library.writer() as writer:
        for seed in range(VIDEOS):
            video = tiny_video(seed, duration_s=2 * SEGMENTS, tokens=1)
            facts = replace(facts_of(video), start_s=start_s(seed))
            commit(writer, stage(library, video), source_of(f"/{seed:02}.mp4", seed), facts)
    return library


def start_s(seed: int) -> float:
    return LATE_S if seed % 3 == 2 else 0.0


@pytest.fixture
def indexed(library: Library, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setattr(search, "INDEX_FROM_ROWS", 300)
    with library.writer() as writer:
        writer.optimize()
    assert library.tables.ensure(f"segments_{PRINTS.features}").list_indices()
    return library


def nearest(
    seeds: Sequence[int], vector: np.ndarray[Any, Any], limit: int, times: TimeRange = EVER
) -> list[tuple[str, int]]:
    """Brute force over all that was written."""
    scored = []
    for seed in seeds:
        video = tiny_video(seed, duration_s=2 * SEGMENTS, tokens=1)
        cosines = video.features @ vector / np.linalg.norm(video.features, axis=1) / np.linalg.norm(vector)
        for span in video.spans:
            after = times.from_s is None or start_s(seed) + span.end_s > times.from_s
            if after and (times.to_s is None or start_s(seed) + span.start_s < times.to_s):
                scored.append((float(cosines[span.index]), video.video_id, span.index))
    return [(video_id, index) for _, video_id, index in sorted(scored, reverse=True)[:limit]]


def found(
    library: Library, vector: Any, limit: int, videos: list[VideoRecord] | None = None, times: TimeRange = EVER
) -> list[tuple[str, int]]:
    hits = library.search(vector, limit=limit, videos=videos, times=times)
    return [(hit.video.video_id, hit.segment.index) for hit in hits]


def question(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1000 + seed).normal(size=FEATURES).astype(np.float32)


def test_the_nearest_segments_come_best_first_with_their_cosine(library: Library) -> None:
    vector = question(0)
    assert found(library, vector, 20) == nearest(range(VIDEOS), vector, 20)
    best, *others = library.search(vector, limit=20)
    assert all(best.score >= other.score for other in others)
    features = tiny_video(0, duration_s=2 * SEGMENTS, tokens=1).features
    assert library.search(features[7], limit=1)[0].score == pytest.approx(1.0, abs=1e-5)


def test_no_more_than_there_are(library: Library) -> None:
    assert len(found(library, question(1), 10_000)) == VIDEOS * SEGMENTS


def test_a_selection_is_searched_alone_and_never_short(library: Library) -> None:
    for seed in range(VIDEOS):
        chosen = library.videos(select=[f"/{seed:02}.mp4"])
        assert found(library, question(seed), 25, chosen) == nearest(range(seed, seed + 1), question(seed), 25)


@pytest.mark.parametrize("trial", range(12))
def test_whatever_limits_are_given_together_the_hits_are_those_of_brute_force(library: Library, trial: int) -> None:
    rng = np.random.default_rng(trial)
    bounds = sorted(float(bound) for bound in rng.choice([-1.0, 0.0, 2.0, 3.5, 58.0, 60.0, LATE_S, LATE_S + 2, 2e3], 2))
    times = TimeRange(*(None if rng.random() < 0.3 else bound for bound in bounds))
    seeds = range(VIDEOS) if trial % 3 == 0 else sorted(rng.choice(VIDEOS, int(rng.integers(1, 5)), replace=False))
    chosen = None if trial % 3 == 0 else library.videos(select=[f"/{seed:02}.mp4" for seed in seeds])
    for limit in (1, 7, VIDEOS * SEGMENTS):
        expected = nearest(seeds, question(trial), limit, times)
        assert found(library, question(trial), limit, chosen, times) == expected


@pytest.mark.parametrize("from_s", [58.0, 5000.0])
def test_a_range_of_time_is_one_query_however_little_lies_in_it(
    indexed: Library, monkeypatch: pytest.MonkeyPatch, from_s: float
) -> None:
    queries: list[int] = []
    nearest_rows = search._nearest

    def noting(*given: Any) -> Any:
        queries.append(given[3])
        return nearest_rows(*given)

    monkeypatch.setattr(search, "_nearest", noting)
    times = TimeRange(from_s=from_s)
    assert set(found(indexed, question(6), 100, None, times)) == set(nearest(range(VIDEOS), question(6), 100, times))
    assert queries == [100]


def test_a_search_reads_the_catalog_rows_of_its_hits_only(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    read = note_catalog_rows(library, monkeypatch)
    hits = library.search(question(7), limit=3)
    assert sorted(read) == sorted({hit.video.uri for hit in hits}) and len(read) <= 3
    read.clear()
    chosen = library.videos(select=["/04.mp4", "05"])
    library.search(question(7), videos=chosen, limit=3)
    assert read == ["/04.mp4", "/05.mp4"]


def test_rows_of_a_commit_that_was_cut_short_are_left_out_without_falling_short(tmp_path: Path) -> None:
    library = open_library(str(tmp_path / "library"), create=True)
    index(library, {"/1.mp4": 1, "/2.mp4": 2})
    near = tiny_video(3)
    cut_short(library, stage(library, near))
    hits = library.search(near.features[0], limit=4)
    assert len(hits) == 4 and {hit.video.uri for hit in hits} == {"/1.mp4", "/2.mp4"}


def test_a_video_that_is_replaced_between_the_query_and_the_look_up_is_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = open_library(str(tmp_path / "library"), create=True)
    videos = [tiny_video(seed) for seed in (1, 2)]
    look_up = Catalog.committed

    def replacing(catalog: Catalog, generations: Any, *given: Any) -> Any:
        monkeypatch.setattr(Catalog, "committed", look_up)
        generations = list(generations)
        commit(writer, stage(library, videos[0]), source_of("/1.mp4", 9), facts_of(videos[0]))
        return look_up(catalog, generations, *given)

    with library.writer() as writer:
        for video in videos:
            commit(writer, stage(library, video), source_of(f"/{video.seed}.mp4", video.seed), facts_of(video))
        monkeypatch.setattr(Catalog, "committed", replacing)
        hits = library.search(videos[0].features[0], limit=3)
    assert len(hits) == 3
    assert (hits[0].video.uri, hits[0].video.source.size, hits[0].segment.index) == ("/1.mp4", 1009, 0)


def test_rows_of_replaced_generations_are_left_out_without_falling_short(tmp_path: Path) -> None:
    """A content written three times: two generations are still in the table, near the question too."""
    library = open_library(str(tmp_path / "library"), create=True)
    video = tiny_video(1, duration_s=20)
    with library.writer() as writer:
        for _ in range(3):
            record = commit(writer, stage(library, video), source_of("/a.mp4", 1), facts_of(video))
    assert library.tables.count(f"segments_{PRINTS.features}") == 3 * record.segment_count
    assert sorted(index for _, index in found(library, question(2), record.segment_count)) == list(
        range(record.segment_count)
    )


def test_an_index_finds_the_same_and_selections_stay_whole(indexed: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    hits = [
        set(found(indexed, question(seed), 10)) & set(nearest(range(VIDEOS), question(seed), 10)) for seed in range(10)
    ]
    assert sum(map(len, hits)) >= 90, "recall of an approximate index"
    for few in (search.FEW_VIDEOS, 0):  # past the index, and through it with all partitions
        monkeypatch.setattr(search, "FEW_VIDEOS", few)
        for seed in range(VIDEOS):
            chosen = indexed.videos(select=[f"/{seed:02}.mp4"])
            assert len(found(indexed, question(seed), SEGMENTS, chosen)) == SEGMENTS


def test_a_large_catalog_is_indexed_by_generation_and_stays_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "CATALOG_INDEX_FROM_ROWS", 3)
    library = open_library(str(tmp_path / "library"), create=True)
    index(library, {f"/{seed}.mp4": seed for seed in range(5)})
    with library.writer() as writer:
        writer.optimize()
    assert library.tables.indexed_columns(CATALOG) == {"generation"}, "never the key: merges would commit it twice"
    index(library, {"/1.mp4": 7, "/5.mp4": 5})
    for again in range(2):
        records = {record.generation: record for record in library.videos()}
        assert len(records) == 6
        assert Catalog(library.store).committed([*records, "0" * 20]) == records, f"optimized {again} times since"
        assert {hit.video.uri for hit in library.search(question(8), limit=100)} == {f"/{n}.mp4" for n in range(6)}
        with library.writer() as writer:
            writer.optimize()


@pytest.fixture
def partitioned(library: Library) -> Library:
    """With an index of more partitions than LanceDB probes by default, as a large library has."""
    table = library.tables.ensure(f"segments_{PRINTS.features}")
    table.create_index("vector", config=IvfRq(distance_type="cosine", num_partitions=PARTITIONS))
    return library


def test_a_search_of_the_whole_library_looks_into_every_partition(partitioned: Library) -> None:
    pairs = [(found(partitioned, question(seed), 60), nearest(range(VIDEOS), question(seed), 60)) for seed in range(9)]
    recall = [len(set(hits) & set(expected)) / 60 for hits, expected in pairs]
    assert sum(recall) / len(recall) > 0.95, recall


def test_a_search_of_the_whole_library_filters_by_nothing(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter over every generation there is takes longer than the search."""
    filters: list[str] = []
    where = LanceVectorQueryBuilder.where

    def recording(query: LanceVectorQueryBuilder, text: str, **options: Any) -> LanceVectorQueryBuilder:
        filters.append(text)
        return where(query, text, **options)

    monkeypatch.setattr(LanceVectorQueryBuilder, "where", recording)
    assert len(library.search(question(5), limit=9)) == 9
    assert filters == []
    (record,) = library.videos(select=["/00.mp4"])
    library.search(question(5), videos=[record])
    assert filters == [f"generation IN ('{record.generation}')"]


def test_an_unknown_model_or_an_empty_library_has_no_candidates(library: Library, tmp_path: Path) -> None:
    assert library.search(question(3), fingerprint="0123456789abcdef") == []
    assert open_library(str(tmp_path / "empty"), create=True).search(question(3)) == []
    assert library.search(question(3), limit=0) == []
    assert library.search(question(3), videos=[]) == []


def test_a_record_of_another_generation_finds_nothing(library: Library) -> None:
    (record,) = library.videos(select=["/00.mp4"])
    assert library.search(question(4), videos=[replace(record, generation="0" * 20)]) == []
