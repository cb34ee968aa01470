"""A stock Qwen3-VL from the outside: nano-vl indexes, routes and reads held-out H.264 files by the command line."""

from __future__ import annotations

import pytest

from flows.embedded import embedded_folder
from nano.phrasings import Kind
from tests.support.held_out import Asked, ask_held_out

NANO_VL = embedded_folder().with_name("nano-vl")
VIDEOS = {f"{number}.mp4": 16 for number in range(7)}
# The kinds that it learned to read; docs/results.md tells of all.
KINDS: tuple[Kind, ...] = ("colour", "shape", "count", "motion", "happen", "times", "first", "last", "most")
LEAST_RIGHT = 0.8
BUDGET = 256  # of the 1,000 tokens that all frame pairs of a video take
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    options = ("--model", NANO_VL), ("--token-budget", str(BUDGET))
    return ask_held_out(tmp_path_factory.mktemp("stock"), VIDEOS, KINDS, *options)


def test_held_out_questions_are_answered_right(asked: list[Asked]) -> None:
    wrong = [(one.question.text, one.question.answer, one.said["answer"]) for one in asked if not one.is_right]
    assert len(asked) - len(wrong) >= 40, wrong
    assert len(wrong) <= (1 - LEAST_RIGHT) * len(asked), wrong


def test_the_best_moment_is_where_the_script_shows_what_is_asked_about(asked: list[Asked]) -> None:
    there = [one for one in asked if one.question.relevant and one.question.kind not in {"first", "last", "most"}]
    wrong = [(one.question.text, one.said["citations"]) for one in there if not one.is_cited_right]
    assert len(wrong) <= (1 - LEAST_RIGHT) * len(there), wrong


def test_each_answer_says_how_the_budget_was_shared_and_stays_within_it(asked: list[Asked]) -> None:
    assert {one.said["allocation"] for one in asked} <= {"relevance", "even"}
    for one in asked:
        usage, segments = one.said["usage"], one.said["segments"]
        assert usage["visual_tokens"] + usage["tag_tokens"] <= BUDGET
        assert usage["visual_tokens"] == sum(segment["tokens"] for segment in segments)
        assert all(1 <= segment["pairs"] <= 4 for segment in segments)
