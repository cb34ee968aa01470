"""Which segments a question is asked over: whatever limits are given together, and nothing dropped unsaid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving import selection
from serving.engine import Engine
from serving.selection import Scope
from storage import ALL_MODELS, Library, open_library, search
from tempo_core.checkpoint_parts import Checkpoint
from tempo_core.errors import LibraryError, UsageError
from tempo_core.fingerprints import Fingerprints
from tempo_core.spec import PAPER, IndexSpec
from tests.support.golden_cases import golden_checkpoint
from tests.support.libraries import add_video
from tests.support.storage_harness import note_catalog_rows

QUESTION = "What color is the square?"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = open_library(str(tmp_path_factory.mktemp("selection") / "lib"), create=True)
    add_video(library, golden_checkpoint(), "lecture", seconds=36)
    add_video(library, golden_checkpoint(), "storm", seconds=22, start_s=100.0)
    add_video(library, golden_checkpoint(), "small", seconds=8, spec=replace(PAPER, name="small", state_dtype="int8"))
    return library


@pytest.fixture
def engine(library: Library) -> Engine:
    return Engine(library, golden_checkpoint())


@pytest.mark.parametrize("from_s", [0.0, 12.0, 28.0, 100.0, 116.0])
def test_candidates_are_looked_for_within_the_range_of_time(engine: Engine, from_s: float) -> None:
    scope = Scope(from_s=from_s, to_s=from_s + 8, candidates=1)
    (segment,) = engine.ask(QUESTION, scope, max_new_tokens=1).segments
    assert from_s <= segment.start_s < from_s + 8


def test_candidates_within_a_range_are_as_many_as_asked_for(engine: Engine) -> None:
    answer = engine.ask(QUESTION, Scope(to_s=20.0, candidates=3), max_new_tokens=1)
    assert len(answer.segments) == 3 and all(segment.end_s <= 20 for segment in answer.segments)


def test_a_search_keeps_to_the_range_of_time(engine: Engine) -> None:
    hits = engine.search(QUESTION, Scope(from_s=100.0, to_s=110.0), limit=2)
    assert len(hits) == 2 and all(100 <= hit.start_s < 110 for hit in hits)


def test_a_named_video_that_cannot_be_asked_about_together_with_the_others_is_said(
    library: Library, engine: Engine
) -> None:
    named = tuple(library.videos(ALL_MODELS, select=["lecture.mp4", "small.mp4"]))
    answer = engine.ask(QUESTION, Scope(named), max_new_tokens=1)
    assert {segment.uri for segment in answer.segments} == {"/archive/lecture.mp4"}
    assert [warning for warning in answer.warnings if "small.mp4 was left out" in warning]


def test_a_video_indexed_twice_is_not_said_to_be_left_out(tmp_path: Path) -> None:
    library = open_library(str(tmp_path / "lib"), create=True)
    for dtype in ("bfloat16", "int8"):
        add_video(library, golden_checkpoint(), "lecture", seconds=8, spec=replace(PAPER, state_dtype=dtype))
    scope = Scope(tuple(library.videos(ALL_MODELS)))
    assert Engine(library, golden_checkpoint()).ask(QUESTION, scope, max_new_tokens=1).warnings == ()


@pytest.fixture
def catalog_rows(library: Library, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return note_catalog_rows(library, monkeypatch)


def test_a_question_reads_the_catalog_rows_of_its_hits_only(engine: Engine, catalog_rows: list[str]) -> None:
    (hit,) = engine.search(QUESTION, limit=1)
    assert catalog_rows == [hit.uri]
    catalog_rows.clear()
    (segment,) = engine.ask(QUESTION, Scope(candidates=1, from_s=100.0), max_new_tokens=1).segments
    assert catalog_rows == [segment.uri]


def test_a_question_about_named_videos_reads_nothing_else_of_the_catalog(
    library: Library, engine: Engine, catalog_rows: list[str]
) -> None:
    lecture = tuple(library.videos(ALL_MODELS, select=["lecture.mp4"]))
    hits = engine.search(QUESTION, Scope(lecture), limit=20)
    assert len(hits) == 9 and {hit.video_id for hit in hits} == {lecture[0].video_id}
    engine.ask(QUESTION, Scope(lecture), max_new_tokens=1)
    assert catalog_rows == [lecture[0].uri]


def test_a_library_whose_videos_of_the_model_are_gone_is_said_to_hold_none(tmp_path: Path) -> None:
    library = open_library(str(tmp_path / "lib"), create=True)
    record = add_video(library, golden_checkpoint(), "lecture", seconds=8)
    engine = Engine(library, golden_checkpoint())
    with library.writer() as writer:
        writer.remove([record.uri])
    for ask in (engine.ask, engine.search):
        with pytest.raises(LibraryError, match="holds no video indexed with the model"):
            ask(QUESTION)


def test_candidates_come_in_the_order_in_which_their_videos_were_named(library: Library, engine: Engine) -> None:
    named = tuple(library.videos(select=["storm.mp4", "lecture.mp4"]))
    segments = engine.ask(QUESTION, Scope(named, candidates=14), max_new_tokens=1).segments
    asked = [(segment.uri, segment.index) for segment in segments]
    assert len(asked) == 14 and asked == sorted(asked, key=lambda one: (one[0] != named[0].uri, one[1]))
    assert asked[0][0] == named[0].uri and asked[-1][0] == named[1].uri


SEGMENTS = 9 + 6  # of the lecture and the storm


@pytest.mark.parametrize(("most", "read"), [(SEGMENTS, SEGMENTS), (SEGMENTS - 1, 2)])
def test_several_videos_with_very_many_segments_are_searched_for_candidates_as_a_library_is(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch, most: int, read: int
) -> None:
    monkeypatch.setattr(selection, "MOST_READ_WHOLE", most)
    monkeypatch.setattr(selection, "DEFAULT_CANDIDATES", 2)
    named = tuple(library.videos(select=["storm.mp4", "lecture.mp4"]))
    answer = engine.ask(QUESTION, Scope(named), max_new_tokens=1)
    nearest = engine.search(QUESTION, Scope(named), limit=read)
    assert {(one.uri, one.index) for one in answer.segments} == {(hit.uri, hit.index) for hit in nearest}
    said = [text for text in answer.warnings if f"have {SEGMENTS} segments" in text and "only the 2 nearest" in text]
    assert len(said) == (read < SEGMENTS)


def test_one_video_is_read_whole_however_many_segments_it_has(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_READ_WHOLE", 1)
    monkeypatch.setattr(selection, "DEFAULT_CANDIDATES", 1)
    (lecture,) = library.videos(select=["lecture.mp4"])
    answer = engine.ask(QUESTION, Scope((lecture, lecture)), max_new_tokens=1)
    assert len(answer.segments) == lecture.segment_count == 9 and answer.warnings == ()


def test_candidates_that_were_asked_for_are_not_said_to_be_all_that_was_considered(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_READ_WHOLE", 1)
    named = tuple(library.videos(select=["storm.mp4", "lecture.mp4"]))
    answer = engine.ask(QUESTION, Scope(named, candidates=SEGMENTS), max_new_tokens=1)
    assert len(answer.segments) == SEGMENTS and answer.warnings == ()


def test_many_videos_are_looked_up_together(library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[str] = []
    real = library.tables.rows

    def noting(table: str, *given: Any) -> Any:
        queries.append(table)
        return real(table, *given)

    monkeypatch.setattr(library.tables, "rows", noting)
    engine.ask(QUESTION, max_new_tokens=1)
    assert len([name for name in queries if name.startswith("segments")]) == 1


def test_fingerprints_are_computed_once_for_an_index_spec_not_for_every_video(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[str] = []
    fingerprints = Checkpoint.fingerprints

    def noting(checkpoint: Checkpoint, spec: IndexSpec) -> Fingerprints:
        specs.append(spec.name)
        return fingerprints(checkpoint, spec)

    monkeypatch.setattr(Checkpoint, "fingerprints", noting)
    engine.search(QUESTION)
    assert sorted(specs) == ["paper", "small"]  # of three videos


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Four videos in the folders day and day/late, and one beside them whose name begins alike."""
    library = open_library(str(tmp_path_factory.mktemp("folders") / "lib"), create=True)
    for name in ("day/one", "day/two", "day/late/three", "day-off/four"):
        add_video(library, golden_checkpoint(), name, seconds=12)
    return library


BELOW = {
    "/archive/day": {"/archive/day/one.mp4", "/archive/day/two.mp4", "/archive/day/late/three.mp4"},
    "/archive/day/late/": {"/archive/day/late/three.mp4"},
    "/archive/other/../day-off": {"/archive/day-off/four.mp4"},
}


@pytest.mark.parametrize("most_listed", [search.MOST_LISTED, 0])
@pytest.mark.parametrize("folder", BELOW)
def test_a_folder_is_asked_about_with_all_below_it_and_nothing_else(
    folders: Library, folder: str, most_listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``most_listed`` 0: as a folder of very many videos is."""
    monkeypatch.setattr(search, "MOST_LISTED", most_listed)
    engine, scope = Engine(folders, golden_checkpoint()), Scope(folder=folder)
    hits = engine.search(QUESTION, scope, limit=100)
    assert len(hits) == 3 * len(BELOW[folder])
    assert {hit.uri for hit in hits} == BELOW[folder]
    (hit,) = engine.search(QUESTION, scope, limit=1)
    assert hit == hits[0]
    for limited in (scope, replace(scope, candidates=2)):
        assert {one.uri for one in engine.ask(QUESTION, limited, max_new_tokens=1).segments} <= BELOW[folder]
    assert len(engine.ask(QUESTION, scope, max_new_tokens=1).segments) == len(hits)


def test_a_folder_with_no_video_is_said(folders: Library) -> None:
    engine = Engine(folders, golden_checkpoint())
    for ask in (engine.ask, engine.search):
        with pytest.raises(UsageError, match=r"no video of .* lies below /archive/da;"):
            ask(QUESTION, Scope(folder="/archive/da"))


def test_a_copy_is_found_in_the_folder_that_it_lies_in(folders: Library) -> None:
    (record,) = folders.videos(select=["four"])
    with folders.writer() as writer:
        content = writer.find_content(record.video_id, record.fingerprints)
        assert content is not None
        copy = writer.commit_copy(replace(record.source, uri="/copies/four.mp4"), content)
    engine = Engine(folders, golden_checkpoint())
    for source in (record, copy):
        folder = source.uri.rpartition("/")[0]
        assert {hit.uri for hit in engine.search(QUESTION, Scope(folder=folder))} == {source.uri}


def test_a_folder_narrows_the_videos_named(folders: Library) -> None:
    named = ["one", "three"]
    assert [video.title for video in folders.videos(select=named, folder="/archive/day/late")] == ["three.mp4"]
