"""Answers are right: held-out questions about rendered H.264 files, through the command line, on the CPU."""

from __future__ import annotations

import pytest

from nano.phrasings import KINDS
from tests.support.held_out import Asked, ask_held_out

VIDEOS = {"one.mp4": 16, "two.mp4": 16, "three.mp4": 24, "four.mp4": 24, "five.mp4": 32, "six.mp4": 16}
LEAST_RIGHT = 0.85
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    return ask_held_out(tmp_path_factory.mktemp("answers"), VIDEOS, KINDS)


def test_held_out_questions_are_answered_right(asked: list[Asked]) -> None:
    assert len(asked) >= 40
    wrong = [(one.question.text, one.question.answer, one.said["answer"]) for one in asked if not one.is_right]
    assert len(wrong) <= (1 - LEAST_RIGHT) * len(asked), wrong


def test_what_training_never_showed_is_among_them(asked: list[Asked]) -> None:
    assert sum(one.question.novel_pair for one in asked) >= 3
    assert sum(one.question.novel_phrasing for one in asked) >= 10


def test_the_best_moment_is_where_the_script_shows_what_is_asked_about(asked: list[Asked]) -> None:
    there = [one for one in asked if one.question.relevant]
    wrong = [
        (one.question.text, one.question.relevant, one.said["citations"]) for one in there if not one.is_cited_right
    ]
    assert len(wrong) <= (1 - LEAST_RIGHT) * len(there), wrong
