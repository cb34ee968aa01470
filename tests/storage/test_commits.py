"""A run's later commits: they cost what the first did, tables are compacted in between, and the writer knows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from storage import Library, StagedVideo, Writer, open_library, sweep, writer
from storage.catalog import Catalog
from storage.schemas import CATALOG, FAILURES, segments_table
from storage.tables import Tables
from tests.support.storage_harness import PRINTS, facts_of, index, put, source_of, stage, tiny_video, uris, video_id

SEGMENTS = segments_table(PRINTS.features)


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The operations on tables so far, by verb and table."""
    counts: Counter[str] = Counter()

    def counted(verb: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(tables: Tables, name: str, *args: Any, **options: Any) -> Any:
            counts[f"{verb} {name}"] += 1
            return real(tables, name, *args, **options)

        return call

    for verb in ("rows", "columns", "count", "version", "upsert", "add", "delete", "optimize"):
        monkeypatch.setattr(Tables, verb, counted(verb, getattr(Tables, verb)))
    return counts


def staged(library: Library, uri: str, seed: int) -> StagedVideo:
    video = tiny_video(seed)
    return StagedVideo(stage(library, video), source_of(uri, seed), facts_of(video))


def during(operations: Counter[str], work: Callable[[], object]) -> Counter[str]:
    before = operations.copy()
    work()
    return operations - before


def test_a_commit_is_one_operation_on_the_catalog_whatever_was_committed(
    library: Library, operations: Counter[str]
) -> None:
    def commit(seed: int) -> None:
        assert writing.find_content(video_id(seed), PRINTS) is None
        put(library, writing, f"/{seed}", seed)
        assert writing.find_content(video_id(seed), PRINTS) is not None

    with library.writer() as writing:
        for seed in range(10):
            commit(seed)
        assert during(operations, lambda: commit(10)) == {f"add {SEGMENTS}": 1, f"upsert {CATALOG}": 1}


def test_several_videos_are_one_commit(library: Library, operations: Counter[str]) -> None:
    def commit(*seeds: int) -> None:
        writing.commit(*(staged(library, f"/{seed}", seed) for seed in seeds))

    with library.writer() as writing:
        for seed in range(2):
            commit(seed)
        assert during(operations, lambda: commit(2, 3, 4)) == {f"add {SEGMENTS}": 1, f"upsert {CATALOG}": 1}
        assert all(writing.find_content(video_id(seed), PRINTS) is not None for seed in range(5))
    assert uris(library) == ["/0", "/1", "/2", "/3", "/4"]
    assert library.verify(grace_s=0) == []


def test_copies_of_several_new_versions_move_but_for_those_that_the_same_commit_replaces(library: Library) -> None:
    index(library, {"/a": 1, "/b": 1, "/c": 1, "/d": 2, "/e": 2})
    with library.writer() as writing:
        one, two, three = writing.commit(staged(library, "/a", 1), staged(library, "/b", 3), staged(library, "/d", 2))
    generations = {record.uri: record.generation for record in library.videos()}
    assert generations == {
        "/a": one.generation,
        "/b": two.generation,
        "/c": one.generation,
        "/d": three.generation,
        "/e": three.generation,
    }
    assert library.verify() == []


@pytest.mark.parametrize("second", [("/b", 1), ("/a", 2)], ids=["one content", "one source"])
def test_what_cannot_be_one_commit_is_none(library: Library, second: tuple[str, int]) -> None:
    with library.writer() as writing, pytest.raises(ValueError, match="only 1 are different"):
        writing.commit(staged(library, "/a", 1), staged(library, *second))
    assert library.videos() == []


def test_a_copy_and_a_changed_source_cost_no_look_up_either(library: Library, operations: Counter[str]) -> None:
    with library.writer() as writing:
        for seed in range(3):
            put(library, writing, f"/{seed}", seed)
        content = writing.find_content(video_id(0), PRINTS)
        assert content is not None
        copied = during(operations, lambda: writing.commit_copy(source_of("/copy", 0), content))
        changed = during(operations, lambda: put(library, writing, "/1", 7))
    assert copied == {f"upsert {CATALOG}": 1}
    assert changed == {f"add {SEGMENTS}": 1, f"upsert {CATALOG}": 1, "upsert retired": 1}


def test_a_failure_is_one_operation_whatever_failed_before(library: Library, operations: Counter[str]) -> None:
    def fail(number: int) -> None:
        writing.record_failure(source_of(f"/{number}", 1), PRINTS.features, "no video stream", "decode")

    with library.writer() as writing:
        for number in range(5):
            fail(number)
        assert during(operations, lambda: fail(5)) == {f"upsert {FAILURES}": 1}
        fail(5)
    assert [failure.attempts for failure in library.failures()] == [1, 1, 1, 1, 1, 2]


def test_tables_are_compacted_within_a_run_and_keep_what_readers_may_stand_on(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "COMPACT_AFTER", 5)
    monkeypatch.setattr(sweep, "MOST_APPENDS", 4)
    with library.writer() as writing:
        first = put(library, writing, "/0", 0)
        for seed in range(1, 10):
            put(library, writing, f"/{seed}", seed)
        put(library, writing, "/0", 20)
        assert library.tables.fragments(CATALOG) <= 2
        assert library.tables.fragments(SEGMENTS) <= 2
    assert len(library.videos()) == 10
    assert library.read_states(first, verify=True), "a reader that took the catalog before its last commit"
    assert library.verify() == []


def test_failures_are_compacted_within_a_run(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "COMPACT_AFTER", 5)
    with library.writer() as writing:
        for number in range(10):
            writing.record_failure(source_of(f"/{number}", 1), PRINTS.features, "no video stream", "decode")
        assert library.tables.fragments(FAILURES) == 1
    assert len(library.failures()) == 10


def test_what_a_writer_holds_does_not_grow_with_the_commits_of_one_source(library: Library) -> None:
    with library.writer() as writing:
        for seed in range(5):
            put(library, writing, "/a", seed)
            assert [writing.find_content(video_id(old), PRINTS) for old in range(seed)] == [None] * seed
        held = writing._held._read()
    assert (len(held.by_key), len(held.copies), len(held.models)) == (1, 1, 1)


class NoLease:
    """Of a writer that lost it, and does not know yet."""

    def acquire(self, wait_s: float) -> None: ...

    def check(self) -> None: ...

    def release(self) -> None: ...


def test_a_late_commit_of_a_lost_holder_is_noticed_by_the_next(library: Library) -> None:
    other = open_library(library.uri)
    late = Writer(Catalog(other.store), NoLease(), other.manifest())
    with library.writer() as writing:
        put(library, writing, "/a", 1)
        put(other, late, "/b", 2)
        put(library, writing, "/c", 3)
        assert writing.find_content(video_id(2), PRINTS) is not None


def test_what_was_removed_is_unknown_at_once(library: Library) -> None:
    index(library, {"/a": 1})
    with library.writer() as writing:
        assert writing.find_content(video_id(1), PRINTS) is not None
        writing.remove(["/a"])
        assert writing.find_content(video_id(1), PRINTS) is None


def test_a_new_version_of_a_content_moves_its_copies_of_earlier_runs_and_of_this_one(library: Library) -> None:
    index(library, {"/a": 1, "/b": 1})
    with library.writer() as writing:
        content = writing.find_content(video_id(1), PRINTS)
        assert content is not None
        writing.commit_copy(source_of("/c", 1), content)
        record = put(library, writing, "/d", 1)
    assert {video.generation for video in library.videos()} == {record.generation}
    assert library.verify() == []
