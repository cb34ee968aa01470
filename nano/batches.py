"""Training batches: random videos of short scenes, random questions about each, everything as numbers.

Shapes: V videos, N segments of a video, Q questions of a video, W segments of a long prompt, A answer tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.utils.data import IterableDataset

from nano.phrasings import KINDS, PHRASINGS, Kind
from nano.questions import Question, Sought, answers, article, draw_question
from nano.render import SceneBatch, batch_scenes
from nano.tables import IntArray, Tables
from nano.world import (
    COLOURS,
    LONGEST_ROW,
    MOTIONS,
    SCENE_LENGTHS_S,
    SHORT_SCENE_S,
    THINGS,
    Habits,
    Script,
    draw_script,
    is_held_out,
)

Tensor = torch.Tensor
NOTHING = "nothing"  # what an irrelevant segment reads as
YES = "yes"
LABELS = (*(label for label in answers() if " " not in label), NOTHING)
_LABEL = {label: number for number, label in enumerate(LABELS)}
_SPELLING, _SEVERAL = 0.2, 0.25  # the shares of "color", and of prompts over several videos
MOST_VIDEOS = 4  # of one prompt
# What is hard is asked more often.
_WEIGHTS = {"colour": 1.0, "shape": 1.2, "count": 1.2, "motion": 1.2, "digit": 1.0, "happen": 1.0, "when": 1.3}
_WEIGHTS |= {"after": 1.3, "times": 1.2}


@dataclass(frozen=True)
class BatchShape:
    """How large a batch is; ``long`` 0: no long prompts."""

    videos: int
    segments: int
    questions: int
    long: int = 0


@dataclass(frozen=True)
class Batch:
    """``scenes``: V * N. ``moments`` [V, N]: rows of the prefix and tag tables. ``titles`` [V, N]: rows of that table.

    ``texts`` [V, Q]: rows of the question tables. ``relevant`` [V, Q, N]. ``sought`` [V, Q, 3]: thing, colour, motion,
    -1 for any. ``reads`` [V, Q, N, 2]: the labels that a segment reads as. ``answers`` [V, Q, A]. ``needed`` [V, Q, N]:
    segments that the answer is read from. The rest are long prompts made of the same segments: ``long_sources``
    [V, Q, W] segment, ``long_moments``, ``long_needed``, ``long_relevant`` [V, Q, W], ``long_answers`` [V, Q, A].
    """

    scenes: SceneBatch
    moments: Tensor
    titles: Tensor
    texts: Tensor
    relevant: Tensor
    sought: Tensor
    reads: Tensor
    answers: Tensor
    needed: Tensor
    long_sources: Tensor
    long_moments: Tensor
    long_needed: Tensor
    long_relevant: Tensor
    long_answers: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class _Long:
    """A long prompt: rows of the batch's fields of the same names."""

    sources: list[int]
    moments: list[int]
    needed: list[int]
    relevant: list[int]
    answer: IntArray


class Batches(IterableDataset[Batch]):
    """Endless; every worker draws its own from ``seed``."""

    def __init__(self, shape: BatchShape, seed: int) -> None:
        self._shape = shape
        self._seed = seed

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        rng = random.Random(self._seed * 1000 + (worker.id if worker else 0))
        with TemporaryDirectory() as folder:
            tables = Tables(Path(folder))
        while True:
            yield draw_batch(rng, self._shape, tables)


def draw_batch(rng: random.Random, shape: BatchShape, tables: Tables) -> Batch:
    """Videos with their questions."""
    scripts = [_script(rng, shape.segments) for _ in range(shape.videos)]
    asked = [_questions(rng, script, shape.questions) for script in scripts]
    laid = [_laid_out(rng, qs, script, tables) for qs, script in zip(asked, scripts, strict=True)]
    # a time is said within its own video: answers of "when" follow the tags
    spoken = [[_spoken(q, rows) for q in qs] for qs, (rows, _) in zip(asked, laid, strict=True)]
    long = [[_long(rng, q, script, shape.long, tables) for q in qs] for qs, script in zip(asked, scripts, strict=True)]
    return Batch(
        scenes=batch_scenes([scene for script in scripts for scene in script.scenes]),
        moments=_tensor([rows for rows, _ in laid]),
        titles=_tensor([titles for _, titles in laid]),
        texts=_tensor([[tables.text_number[_spelled(rng, q.text)] for q in qs] for qs in asked]),
        relevant=_tensor([[_marks(q.relevant, shape.segments) for q in qs] for qs in asked]).bool(),
        sought=_tensor([[_sought(q) for q in qs] for qs in asked]),
        reads=_tensor([[_reads(q, s) for q in qs] for qs, s in zip(asked, scripts, strict=True)]),
        answers=_tensor([[tables.answer(answer) for answer in row] for row in spoken]),
        needed=_tensor([[_marks(q.evidence, shape.segments) for q in qs] for qs in asked]).bool(),
        long_sources=_tensor([[one.sources for one in row] for row in long]),
        long_moments=_tensor([[one.moments for one in row] for row in long]),
        long_needed=_tensor([[one.needed for one in row] for row in long]).bool(),
        long_relevant=_tensor([[one.relevant for one in row] for row in long]).bool(),
        long_answers=_tensor([[one.answer for one in row] for row in long]),
    )


def _script(rng: random.Random, segments: int) -> Script:
    habits = Habits(quiet=rng.uniform(0.1, 0.7), common=rng.choice((0.0, 0.3, 0.6)), cards=rng.uniform(0.05, 0.3))
    return draw_script(rng, segments, SHORT_SCENE_S, habits)


def _questions(rng: random.Random, script: Script, count: int) -> list[Question]:
    found: list[Question] = []
    kinds: list[Kind] = list(KINDS)
    for _ in range(count * 40):
        kind = rng.choices(kinds, [_WEIGHTS[kind] for kind in kinds])[0]
        question = draw_question(rng, script, kind, with_held_out=False)
        if question is not None:
            found.append(question)
        if len(found) == count:
            return found
    filler = found or [_absent(rng, script)]  # next to nothing is shown: what is absent can always be asked
    return (filler * count)[:count]


def _absent(rng: random.Random, script: Script) -> Question:
    while True:
        sought = Sought(rng.choice(THINGS[:-1]), rng.choice(COLOURS))
        text = rng.choice(PHRASINGS["happen"][:-1]).format(x=sought.name, a=article(sought.name))
        if not is_held_out(sought.thing, sought.colour) and not any(map(sought.fits, script.scenes)):
            return Question("happen", text, sought, "no", (), (), novel_phrasing=False, novel_pair=False)


def _laid_out(rng: random.Random, asked: list[Question], script: Script, tables: Tables) -> tuple[list[int], list[int]]:
    """Rows of the moments and of the titles: one video at some place of a longer one, or several after each other.

    What comes after something comes after it in the same video.
    """
    count = len(script.scenes)
    cuts = (
        sorted(rng.sample(range(1, count), rng.randint(1, MOST_VIDEOS - 1)))
        if rng.random() < _SEVERAL and count > 4
        else []
    )
    followers = {question.evidence[1] for question in asked if question.kind == "after"}
    cuts = [cut for cut in cuts if cut not in followers]
    rows, titles = [], []
    for begin, end in zip([0, *cuts], [*cuts, count], strict=True):
        scene_s = rng.choice(SCENE_LENGTHS_S) if rng.random() < 0.4 else SHORT_SCENE_S
        first = 0 if rng.random() < 0.5 else rng.randint(0, LONGEST_ROW - (end - begin))
        rows += [tables.moment(scene_s, first + i) for i in range(end - begin)]
        title = rng.randrange(1, len(tables.titles.lengths)) if cuts else 0
        titles += [title, *[0] * (end - begin - 1)]
    return rows, titles


def _spoken(question: Question, rows: list[int]) -> str:
    return _middle(rows[question.evidence[0]]) if question.kind == "when" else question.answer


def _middle(row: int) -> str:
    """The middle of the segment in whole seconds."""
    scene_s = SCENE_LENGTHS_S[row // LONGEST_ROW]
    return str((2 * (row % LONGEST_ROW) + 1) * scene_s // 2)


def _spelled(rng: random.Random, text: str) -> str:
    return text.replace("colour", "color") if rng.random() < _SPELLING else text


def _marks(indices: tuple[int, ...], count: int) -> list[int]:
    return [int(index in indices) for index in range(count)]


def _sought(question: Question) -> tuple[int, int, int]:
    sought = question.sought
    return (
        -1 if sought.thing is None else THINGS.index(sought.thing),
        -1 if sought.colour is None else COLOURS.index(sought.colour),
        -1 if sought.motion is None else MOTIONS.index(sought.motion),
    )


def _reads(question: Question, script: Script) -> list[tuple[int, int]]:
    """Two labels a segment: what answers, and for what comes after, what the segment shows in any case."""
    if question.kind == "after":
        shows = [(scene.colour or NOTHING, scene.thing or NOTHING) for scene in script.scenes]
        return [(_LABEL[colour], _LABEL[thing]) for colour, thing in shows]
    said = YES if question.kind in ("when", "happen", "times") else question.answer
    nothing = _LABEL[NOTHING]
    return [(_LABEL[said] if i in question.relevant else nothing, nothing) for i in range(len(script.scenes))]


def _long(rng: random.Random, question: Question, script: Script, count: int, tables: Tables) -> _Long:
    """A prompt of ``count`` segments: what the answer needs somewhere in it, other segments again and again between."""
    if not count:
        return _Long([], [], [], [], tables.answer(question.answer))
    others = [i for i in range(len(script.scenes)) if i not in (*question.relevant, *question.evidence)]
    sources = [rng.choice(others or range(len(script.scenes))) for _ in range(count)]
    needed, relevant = [0] * count, [0] * count
    block = 2 if question.kind == "after" else 1
    pieces = [question.evidence[i : i + block] for i in range(0, len(question.evidence), block)]
    places = sorted(rng.sample(range(count // block), len(pieces)))
    for place, piece in zip(places, pieces, strict=True):
        sources[place * block : place * block + block] = piece
        needed[place * block : place * block + block] = [1] * len(piece)
        relevant[place * block] = 1
    scene_s = rng.choice(SCENE_LENGTHS_S)
    rows = [tables.moment(scene_s, index) for index in range(count)]
    answer = _middle(rows[needed.index(1)]) if question.kind == "when" else question.answer
    return _Long(sources, rows, needed, relevant, tables.answer(answer))


def _tensor(rows: object) -> Tensor:
    return torch.from_numpy(np.array(rows, dtype=np.int64))
