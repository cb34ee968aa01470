"""Held-out questions about videos that are drawn, encoded, indexed and asked about through the command line.

The videos, some pairs of shape and colour and some phrasings are ones that no model here was trained on.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nano.phrasings import Kind
from nano.questions import Question, draw_question
from nano.video_file import write_video
from nano.world import Habits, Script, draw_script
from tests.support.tempo_cli import Record, index, tempo

SEED = 77


@dataclass(frozen=True)
class Asked:
    """A question, and what was said to it (``tempo ask --json``)."""

    script: Script
    question: Question
    said: Record

    @property
    def is_right(self) -> bool:
        return str(self.said["answer"]).strip() == self.question.answer

    @property
    def is_cited_right(self) -> bool:
        """Whether the best moment is made of relevant scenes alone."""
        if not self.said["citations"]:
            return False
        best = self.said["citations"][0]
        scenes = range(round(best["start_s"] / self.script.scene_s), round(best["end_s"] / self.script.scene_s))
        return bool(scenes) and set(scenes) <= set(self.question.relevant)


def ask_held_out(
    folder: Path,
    videos: Mapping[str, int],
    kinds: Sequence[Kind],
    indexing: Sequence[str | Path] = (),
    asking: Sequence[str | Path] = (),
) -> list[Asked]:
    """One question of each of ``kinds`` about each video.

    ``videos``: scenes by file name. ``indexing``, ``asking``: options of the commands.
    """
    rng = random.Random(SEED)
    scripts = {name: draw_script(rng, scenes, habits=Habits(with_held_out=True)) for name, scenes in videos.items()}
    index(folder / "library", *(write_video(script, folder / name) for name, script in scripts.items()), *indexing)
    about = ("--library", folder / "library")
    return [
        Asked(script, question, tempo("ask", question.text, *about, "--video", name, "--json", *asking).json[0])
        for turn, (name, script) in enumerate(scripts.items())
        for question in _drawn(rng, script, kinds, turn)
    ]


def _drawn(rng: random.Random, script: Script, kinds: Sequence[Kind], turn: int) -> list[Question]:
    """One of each kind; every third, others in each ``turn``, in a phrasing that training never used."""
    novel = [(place + turn) % 3 == 0 for place in range(len(kinds))]
    found = (draw_question(rng, script, kind, novel_phrasing=one) for kind, one in zip(kinds, novel, strict=True))
    return [question for question in found if question is not None]
