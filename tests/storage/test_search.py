"""Candidates by their features: exact in a small library, never short where a selection is searched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lancedb.index import IvfRq
from lancedb.query import LanceVectorQueryBuilder

from storage import Library, VideoRecord, open_library, search
from tests.support.storage_harness import FEATURES, PRINTS, facts_of, source_of, stage, tiny_video

VIDEOS, SEGMENTS, PARTITIONS = 12, 30, 64


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = open_library(str(tmp_path_factory.mktemp("search") / "library"), create=True)
    with library.writer() as writer:
        for seed in range(VIDEOS):
            video = tiny_video(seed, duration_s=2 * SEGMENTS, tokens=1)
            writer.commit(stage(library, video), source_of(f"/{seed:02}.mp4", seed), facts_of(video))
    return library


@pytest.fixture
def indexed(library: Library, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setattr(search, "INDEX_FROM_ROWS", 300)
    with library.writer() as writer:
        writer.optimize()
    assert library.tables.ensure(f"segments_{PRINTS.features}").list_indices()
    return library


def nearest(seeds: range, vector: np.ndarray[Any, Any], limit: int) -> list[tuple[str, int]]:
    """Brute force over all that was written."""
    scored = []
    for seed in seeds:
        video = tiny_video(seed, duration_s=2 * SEGMENTS, tokens=1)
        cosines = video.features @ vector / np.linalg.norm(video.features, axis=1) / np.linalg.norm(vector)
        scored += [(float(cosine), video.video_id, index) for index, cosine in enumerate(cosines)]
    return [(video_id, index) for _, video_id, index in sorted(scored, reverse=True)[:limit]]


def found(library: Library, vector: Any, limit: int, videos: list[VideoRecord] | None = None) -> list[tuple[str, int]]:
    return [(hit.video_id, hit.index) for hit in library.search(vector, limit=limit, videos=videos)]


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


def test_rows_of_replaced_generations_are_left_out_without_falling_short(library: Library, tmp_path: Path) -> None:
    """A content written three times: two generations are still in the table, near the question too."""
    library = open_library(str(tmp_path / "library"), create=True)
    video = tiny_video(1, duration_s=20)
    with library.writer() as writer:
        for _ in range(3):
            record = writer.commit(stage(library, video), source_of("/a.mp4", 1), facts_of(video))
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
