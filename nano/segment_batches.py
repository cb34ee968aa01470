"""What all training batches hold: random videos of short scenes, and random questions read over their segments.

Shapes: V videos, N segments of a video, Q questions of a video.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import IterableDataset

from nano.phrasings import PHRASINGS, WHOLE_KINDS, Kind
from nano.questions import Question, Sought, answers, asked_in, draw_question
from nano.render import SceneBatch, batch_scenes
from nano.tables import Tables
from nano.tokenizer import Wording
from nano.world import COLOURS, MOTIONS, SHORT_SCENE_S, THINGS, Habits, Script, draw_script, is_held_out

Tensor = torch.Tensor
NOTHING = "nothing"  # what an irrelevant segment reads as
YES = "yes"
LABELS = (*(label for label in answers() if " " not in label), NOTHING)
_LABEL = {label: number for number, label in enumerate(LABELS)}
_SPELLING = 0.2  # the share of "color"
# What is hard is asked more often.
_WEIGHTS: dict[Kind, float] = {"colour": 1.0, "shape": 1.2, "count": 1.2, "motion": 1.2, "digit": 1.0, "happen": 1.0}
_WEIGHTS |= {"when": 1.3, "after": 1.3, "times": 1.2, "most": 1.2, "first": 1.0, "last": 1.0, "different": 1.4}


@dataclass(frozen=True)
class BatchShape:
    """How large a batch is; ``long`` 0: no long prompts."""

    videos: int
    segments: int
    questions: int
    long: int = 0


@dataclass(frozen=True)
class SegmentBatch:
    """``scenes``: V * N. ``moments`` [V, N]: rows of the prefix and tag tables.

    ``texts`` [V, Q]: rows of the question tables. ``relevant`` [V, Q, N]. ``sought`` [V, Q, 3]: thing, colour, motion,
    -1 for any. ``reads`` [V, Q, N, 2]: the labels that a segment reads as.
    """

    scenes: SceneBatch
    moments: Tensor
    texts: Tensor
    relevant: Tensor
    sought: Tensor
    reads: Tensor

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


Draw = Callable[[random.Random, BatchShape, Tables], Any]  # a batch of some model


class Batches(IterableDataset[Any]):
    """Endless; every worker draws its own from ``seed``."""

    def __init__(self, draw: Draw, wording: Wording, shape: BatchShape, seed: int) -> None:
        self._draw, self._wording, self._shape, self._seed = draw, wording, shape, seed

    def __iter__(self) -> Iterator[Any]:
        worker = torch.utils.data.get_worker_info()
        rng = random.Random(self._seed * 1000 + (worker.id if worker else 0))
        with TemporaryDirectory() as folder:
            tables = Tables(Path(folder), self._wording)
        while True:
            yield self._draw(rng, self._shape, tables)


def segment_batch(
    rng: random.Random,
    scripts: Sequence[Script],
    asked: Sequence[Sequence[Question]],
    rows: Sequence[Sequence[int]],
    tables: Tables,
) -> SegmentBatch:
    """Of each script its questions, and the rows of its segments' moments."""
    both = list(zip(asked, scripts, strict=True))
    return SegmentBatch(
        scenes=batch_scenes([scene for script in scripts for scene in script.scenes]),
        moments=tensor(rows),
        texts=tensor([[tables.text_number[spelled(rng, q.text)] for q in qs] for qs in asked]),
        relevant=tensor([[marks(q.relevant, len(s.scenes)) for q in qs] for qs, s in both]).bool(),
        sought=tensor([[_sought(q) for q in qs] for qs in asked]),
        reads=tensor([[_reads(q, s) for q in qs] for qs, s in both]),
    )


def training_script(rng: random.Random, segments: int, is_sparing: bool = False) -> Script:
    """A random video without held-out pairs."""
    habits = Habits(
        quiet=rng.uniform(0.1, 0.7),
        common=rng.choice((0.0, 0.3, 0.6)),
        cards=rng.uniform(0.05, 0.3),
        is_sparing=is_sparing,
    )
    return draw_script(rng, segments, SHORT_SCENE_S, habits)


def training_questions(rng: random.Random, script: Script, count: int, kinds: Sequence[Kind]) -> list[Question]:
    """Questions of ``kinds`` that name no held-out pair."""
    found: list[Question] = []
    for _ in range(count * 40):
        kind = rng.choices(kinds, [_WEIGHTS[kind] for kind in kinds])[0]
        question = draw_question(rng, script, kind, with_held_out=False)
        if question is not None:
            found.append(question)
        if len(found) == count:
            return found
    filler = found or [absent_question(rng, script)]  # next to nothing is shown: what is absent can always be asked
    return (filler * count)[:count]


def absent_question(rng: random.Random, script: Script) -> Question:
    """Whether something is shown that is not."""
    while True:
        sought = Sought(rng.choice(THINGS[:-1]), rng.choice(COLOURS))
        text = asked_in(rng.choice(PHRASINGS["happen"][:-1]), sought)
        if not is_held_out(sought.thing, sought.colour) and not any(map(sought.fits, script.scenes)):
            return Question("happen", text, sought, "no", (), (), novel_phrasing=False, novel_pair=False)


def spelled(rng: random.Random, text: str) -> str:
    """Now and then in the other spelling."""
    return text.replace("colour", "color") if rng.random() < _SPELLING else text


def marks(indices: Sequence[int], count: int) -> list[int]:
    """1 at each of the indices, else 0."""
    return [int(index in indices) for index in range(count)]


def _sought(question: Question) -> tuple[int, int, int]:
    sought = question.sought
    return (
        -1 if sought.thing is None else THINGS.index(sought.thing),
        -1 if sought.colour is None else COLOURS.index(sought.colour),
        -1 if sought.motion is None else MOTIONS.index(sought.motion),
    )


def _reads(question: Question, script: Script) -> list[tuple[int, int]]:
    """Two labels a segment: what answers, and for what comes after and for a whole video, what the segment shows in any
    case."""
    if question.kind in ("after", *WHOLE_KINDS):
        shows = [(scene.colour or NOTHING, scene.thing or NOTHING) for scene in script.scenes]
        return [(_LABEL[colour], _LABEL[thing]) for colour, thing in shows]
    said = YES if question.kind in ("when", "happen", "times") else question.answer
    nothing = _LABEL[NOTHING]
    return [(_LABEL[said] if i in question.relevant else nothing, nothing) for i in range(len(script.scenes))]


def tensor(rows: object) -> Tensor:
    """Nested numbers as int64."""
    return torch.from_numpy(np.array(rows, dtype=np.int64))
