"""The demo's videos, of the world that the embedded model was made for, with questions whose answers are known."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from nano.phrasings import KINDS, Kind
from nano.questions import Question, draw_question
from nano.video_file import write_video
from nano.world import Script, draw_script

_SEED = 41  # every kind of question comes up, one of them about what is not there
_LENGTHS = {"yard.mp4": 24, "hall.mp4": 16, "gate.mp4": 32}  # scenes of 4 seconds
_QUESTIONS = 4  # of each video, the kinds in turn


@dataclass(frozen=True)
class DemoVideo:
    """A video to make, and what is asked about it."""

    name: str
    script: Script
    questions: tuple[Question, ...]


def demo_videos() -> list[DemoVideo]:
    """Always the same."""
    rng, kinds = random.Random(_SEED), cycle(KINDS)
    videos = []
    for name, scenes in _LENGTHS.items():
        script = draw_script(rng, scenes)
        found = (_question(rng, script, kind) for kind in kinds)
        videos.append(DemoVideo(name, script, tuple(islice(filter(None, found), _QUESTIONS))))
    return videos


def _question(rng: random.Random, script: Script, kind: Kind) -> Question | None:
    """One whose answer lies in one place, or in none."""
    question = draw_question(rng, script, kind)
    return question if question is not None and len(question.relevant) < 2 else None


def make_demo_videos(folder: Path, videos: list[DemoVideo]) -> list[Path]:
    """Their files in ``folder``, made anew: what lies there may be of an older world. VideoError if ffmpeg cannot."""
    return [write_video(video.script, folder / video.name) for video in videos]
