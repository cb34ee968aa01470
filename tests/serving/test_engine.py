from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.answer import Answer
from serving.engine import Engine
from serving.selection import Scope
from storage import Library, open_library
from tempo_core.allocation import allocate
from tempo_core.errors import BudgetError, LibraryError, UsageError
from tempo_core.spec import PAPER
from tests.support.golden_cases import golden_checkpoint
from tests.support.libraries import add_video

QUESTION = "What color is the square?"
_PLAIN = replace(PAPER, name="plain", state_dtype="float32")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = open_library(str(tmp_path_factory.mktemp("engine") / "lib"), create=True)
    add_video(library, golden_checkpoint(), "lecture", seconds=36, spec=_PLAIN)
    add_video(library, golden_checkpoint(), "storm", seconds=22, spec=_PLAIN, start_s=100.0, warnings=("cut short",))
    return library


@pytest.fixture
def engine(library: Library) -> Engine:
    return Engine(library, golden_checkpoint())


def _scope(library: Library, *titles: str, **limits: Any) -> Scope:
    return Scope(videos=tuple(library.videos(select=titles)), **limits)


def _counting(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[str]:
    """Calls of a method, which still runs."""
    calls: list[str] = []
    real = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


def test_an_answer_equals_the_method_step_by_step(library: Library, engine: Engine) -> None:
    checkpoint = golden_checkpoint()
    (video,) = library.videos(select=["lecture.mp4"])
    states = library.read_states(video)
    scores = checkpoint.compressor.relevance(states, QUESTION)
    tokens = allocate(scores, 100)
    memory = checkpoint.compressor.compress(states, QUESTION, tokens)
    tags = [segment.tag_time_s for segment in library.segments(video)]
    expected = checkpoint.answerer.generate(QUESTION, tags, memory, max_new_tokens=12)

    answer = engine.ask(QUESTION, _scope(library, "lecture.mp4"), token_budget=100, max_new_tokens=12)

    assert answer.answer == expected.text
    assert [segment.tokens for segment in answer.segments] == tokens.tolist()
    np.testing.assert_allclose([segment.relevance for segment in answer.segments], scores, atol=1e-6)
    assert answer.usage.prompt_tokens == expected.prompt_tokens
    assert answer.usage.visual_tokens == tokens.sum()


def test_a_stream_ends_with_the_answer_of_its_pieces(library: Library, engine: Engine) -> None:
    *pieces, answer = engine.stream(QUESTION, _scope(library, "lecture.mp4"), max_new_tokens=12)
    assert isinstance(answer, Answer)
    assert "".join(str(piece) for piece in pieces) == answer.answer


def test_a_second_question_about_a_video_reads_and_rebuilds_nothing(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = _scope(library, "lecture.mp4")
    engine.ask(QUESTION, scope, max_new_tokens=1)
    reads = _counting(monkeypatch, library, "read_states")
    prefills = _counting(monkeypatch, golden_checkpoint().compressor, "prefill")
    engine.ask("Another question?", scope, max_new_tokens=1)
    assert (reads, prefills) == ([], [])


def test_a_warm_answer_equals_a_cold_one(library: Library, engine: Engine) -> None:
    scope = _scope(library, "lecture.mp4", "storm.mp4")
    cold, warm = (engine.ask(QUESTION, scope, max_new_tokens=12) for _ in range(2))
    assert replace(warm, timings_s=cold.timings_s) == cold


def test_an_engine_without_room_for_a_cache_answers_the_same(library: Library, engine: Engine) -> None:
    scope = _scope(library, "lecture.mp4")
    small = Engine(library, golden_checkpoint(), device_cache_bytes=0, host_cache_bytes=0)
    roomy, bare = (one.ask(QUESTION, scope, max_new_tokens=12) for one in (engine, small))
    assert replace(bare, timings_s=roomy.timings_s) == roomy
    assert small.cache_nbytes == (0, 0)


@pytest.fixture
def titles(monkeypatch: pytest.MonkeyPatch) -> list[dict[int, str]]:
    """The titles that each prompt was given, while the real prompt is made."""
    given: list[dict[int, str]] = []
    answerer = golden_checkpoint().answerer
    real = answerer.prompt

    def prompt(*args: Any) -> Any:
        given.append(args[3])
        return real(*args)

    monkeypatch.setattr(answerer, "prompt", prompt)
    return given


def test_several_videos_are_introduced_by_their_titles_in_order(
    library: Library, engine: Engine, titles: list[dict[int, str]]
) -> None:
    answer = engine.ask(QUESTION, _scope(library, "storm.mp4", "lecture.mp4"), max_new_tokens=1)
    assert titles == [{0: "storm.mp4", 6: "lecture.mp4"}]
    assert [segment.index for segment in answer.segments] == [*range(6), *range(9)]


def test_one_video_is_asked_about_exactly_as_published_without_a_title(
    library: Library, engine: Engine, titles: list[dict[int, str]]
) -> None:
    engine.ask(QUESTION, _scope(library, "lecture.mp4"), max_new_tokens=1)
    assert titles == [{}]


def test_times_are_the_players(library: Library, engine: Engine) -> None:
    answer = engine.ask(QUESTION, _scope(library, "storm.mp4"), max_new_tokens=1)
    assert answer.segments[0].start_s == 100.0
    assert answer.segments[-1].end_s == 122.0
    assert min(citation.start_s for citation in answer.citations) >= 100.0
    assert min(hit.start_s for hit in engine.search(QUESTION, _scope(library, "storm.mp4"))) == 100.0


def test_a_range_of_time_is_in_the_players_time(library: Library, engine: Engine) -> None:
    scope = _scope(library, "storm.mp4", from_s=104.0, to_s=111.0)
    answer = engine.ask(QUESTION, scope, max_new_tokens=1)
    assert [segment.index for segment in answer.segments] == [1, 2]


def test_a_range_outside_the_video_is_a_usage_error(library: Library, engine: Engine) -> None:
    with pytest.raises(UsageError, match="range of time"):
        engine.ask(QUESTION, _scope(library, "storm.mp4", from_s=500.0))


def test_candidates_come_from_the_whole_library_and_are_ranked_exactly(library: Library, engine: Engine) -> None:
    everything = engine.ask(QUESTION, max_new_tokens=1)
    few = engine.ask(QUESTION, Scope(candidates=4), max_new_tokens=1)
    found = {(hit.video_id, hit.index) for hit in engine.search(QUESTION, limit=4)}
    exact = {(segment.video_id, segment.index): segment.relevance for segment in everything.segments}
    assert len(everything.segments) == 15
    assert {(segment.video_id, segment.index) for segment in few.segments} == found
    for segment in few.segments:
        assert segment.relevance == pytest.approx(exact[segment.video_id, segment.index], abs=1e-5)


def test_search_finds_segments_best_first_and_no_more_than_asked(library: Library, engine: Engine) -> None:
    hits = engine.search(QUESTION, limit=5)
    assert len(hits) == 5
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert {hit.title for hit in engine.search(QUESTION, limit=50)} == {"lecture.mp4", "storm.mp4"}


def test_a_videos_own_warning_is_repeated_with_the_answer(library: Library, engine: Engine) -> None:
    assert engine.ask(QUESTION, _scope(library, "storm.mp4"), max_new_tokens=1).warnings == ("storm.mp4: cut short",)


def test_a_budget_below_the_segments_keeps_the_most_relevant_and_says_so(library: Library, engine: Engine) -> None:
    scope = _scope(library, "lecture.mp4")
    every = engine.ask(QUESTION, scope, max_new_tokens=1)
    few = engine.ask(QUESTION, scope, token_budget=5, max_new_tokens=1)
    best = sorted(sorted(every.segments, key=lambda segment: -segment.relevance)[:5], key=lambda one: one.index)
    assert [segment.index for segment in few.segments] == [segment.index for segment in best]
    assert [segment.tokens for segment in few.segments] == [1] * 5
    assert "5 most relevant of 9 segments" in few.warnings[0]


def test_a_budget_that_the_context_cannot_hold_is_an_error_that_says_how_much_it_can(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden_checkpoint().answerer, "context_tokens", 600)
    with pytest.raises(BudgetError, match="Ask for at most"):
        engine.ask(QUESTION, _scope(library, "lecture.mp4"), token_budget=900, max_new_tokens=8)


def test_the_default_budget_shrinks_to_the_context_and_says_so(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden_checkpoint().answerer, "context_tokens", 600)
    answer = engine.ask(QUESTION, _scope(library, "lecture.mp4"), max_new_tokens=8)
    assert answer.usage.prompt_tokens + 8 <= 600
    assert "token budget was lowered" in answer.warnings[0]


def test_another_models_library_is_refused_with_the_way_out(tmp_path: Path) -> None:
    library = open_library(str(tmp_path / "lib"), create=True)
    with pytest.raises(LibraryError, match="tempo index"):
        Engine(library, golden_checkpoint()).ask(QUESTION)


def test_copies_of_a_content_are_read_once(tmp_path: Path) -> None:
    library = open_library(str(tmp_path / "lib"), create=True)
    record = add_video(library, golden_checkpoint(), "one", seconds=8, spec=_PLAIN)
    with library.writer() as writer:
        content = writer.find_content(record.video_id, record.fingerprints)
        assert content is not None
        writer.commit_copy(replace(record.source, uri="/archive/copy.mp4"), content)
    answer = Engine(library, golden_checkpoint()).ask(QUESTION, max_new_tokens=1)
    assert len(answer.segments) == record.segment_count


def test_timings_add_up_to_the_total(library: Library, engine: Engine) -> None:
    timings = engine.ask(QUESTION, _scope(library, "lecture.mp4"), max_new_tokens=4).to_json()["timings_s"]
    assert isinstance(timings, dict)
    assert set(timings) == {"load", "restore", "route", "compress", "generate", "wait", "total"}
    assert sum(timings.values()) == pytest.approx(2 * timings["total"])


def test_a_question_too_long_to_keep_is_refused_before_it_is_read(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = _counting(monkeypatch, golden_checkpoint().compressor, "read_slabs")
    with pytest.raises(BudgetError, match="at most 512 can be asked"):
        engine.ask("word " * 20_000, _scope(library, "lecture.mp4"))
    assert read == []


def test_segments_that_are_left_out_are_not_restored_again(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engine.SLAB_SEGMENTS", 1)
    bare = Engine(library, golden_checkpoint(), device_cache_bytes=0, host_cache_bytes=0)
    prefills = _counting(monkeypatch, golden_checkpoint().compressor, "prefill")
    bare.ask(QUESTION, _scope(library, "lecture.mp4"), token_budget=5, max_new_tokens=1)
    assert len(prefills) == 9 + 5  # every segment to route, the kept ones to compress


@pytest.mark.parametrize(("absent_below", "is_absent"), [(1.0, True), (0.0, False), (None, False)])
def test_what_is_probably_not_there_is_said_and_no_moment_is_cited(
    library: Library, absent_below: float | None, is_absent: bool
) -> None:
    engine = Engine(library, replace(golden_checkpoint(), absent_below=absent_below))
    answer = engine.ask(QUESTION, _scope(library, "lecture.mp4"), max_new_tokens=1)
    assert any("probably not shown" in warning for warning in answer.warnings) is is_absent
    assert (answer.citations == ()) is is_absent
