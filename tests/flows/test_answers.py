"""Answers are right: held-out questions about rendered H.264 files, through the command line, on the CPU.

The videos, some pairs of shape and colour and some phrasings are ones that the embedded model was not trained on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from nano.phrasings import KINDS
from nano.questions import Question, draw_question
from nano.video_file import write_video
from nano.world import Habits, Script, draw_script
from tests.support.tempo_cli import index, tempo

SEED = 77
VIDEOS = {"one.mp4": 16, "two.mp4": 16, "three.mp4": 24, "four.mp4": 24, "five.mp4": 32, "six.mp4": 16}
LEAST_RIGHT = 0.85
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Asked:
    """A question, and what was answered and cited."""

    script: Script
    question: Question
    answer: str
    cited_s: list[tuple[float, float]]

    @property
    def is_right(self) -> bool:
        return self.answer == self.question.answer

    @property
    def is_cited_right(self) -> bool:
        """Whether the best moment is made of relevant scenes alone."""
        if not self.cited_s:
            return False
        start_s, end_s = self.cited_s[0]
        scenes = range(round(start_s / self.script.scene_s), round(end_s / self.script.scene_s))
        return bool(scenes) and set(scenes) <= set(self.question.relevant)


def drawn(rng: random.Random, script: Script, turn: int) -> list[Question]:
    """One of each kind; every third, others in each ``turn``, in a phrasing that training never used."""
    novel = [(place + turn) % 3 == 0 for place in range(len(KINDS))]
    found = (draw_question(rng, script, kind, novel_phrasing=one) for kind, one in zip(KINDS, novel, strict=True))
    return [question for question in found if question is not None]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    folder, rng = tmp_path_factory.mktemp("answers"), random.Random(SEED)
    scripts = {name: draw_script(rng, scenes, habits=Habits(with_held_out=True)) for name, scenes in VIDEOS.items()}
    index(folder / "library", *(write_video(script, folder / name) for name, script in scripts.items()))
    return [
        answered(folder / "library", name, script, question)
        for turn, (name, script) in enumerate(scripts.items())
        for question in drawn(rng, script, turn)
    ]


def answered(library: Path, name: str, script: Script, question: Question) -> Asked:
    (said,) = tempo("ask", question.text, "--library", library, "--video", name, "--json").json
    cited = [(cited["start_s"], cited["end_s"]) for cited in said["citations"]]
    return Asked(script, question, said["answer"].strip(), cited)


def test_held_out_questions_are_answered_right(asked: list[Asked]) -> None:
    assert len(asked) >= 40
    wrong = [(one.question.text, one.question.answer, one.answer) for one in asked if not one.is_right]
    assert len(wrong) <= (1 - LEAST_RIGHT) * len(asked), wrong


def test_what_training_never_showed_is_among_them(asked: list[Asked]) -> None:
    assert sum(one.question.novel_pair for one in asked) >= 3
    assert sum(one.question.novel_phrasing for one in asked) >= 10


def test_the_best_moment_is_where_the_script_shows_what_is_asked_about(asked: list[Asked]) -> None:
    there = [one for one in asked if one.question.relevant]
    wrong = [(one.question.text, one.question.relevant, one.cited_s) for one in there if not one.is_cited_right]
    assert len(wrong) <= (1 - LEAST_RIGHT) * len(there), wrong
