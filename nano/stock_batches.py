"""Training batches of nano-vl: segments with their questions, and prompts of some of their frame pairs.

Shapes: V videos, N segments of a video, Q questions of a video, W segments of a prompt, T frame pairs, A answer tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from nano.phrasings import KINDS, WHOLE_KINDS
from nano.questions import Question, draw_question
from nano.segment_batches import (
    BatchShape,
    SegmentBatch,
    segment_batch,
    spelled,
    tensor,
    training_questions,
    training_script,
)
from nano.tables import PAIRS, Tables, pair_times
from nano.world import LONGEST_ROW, SCENE_LENGTHS_S, SHORT_SCENE_S, Script, shown
from tempo_core.prompts import time_tag

Tensor = torch.Tensor
Kept = npt.NDArray[np.bool_]
_WHOLE = 0.4  # the share of questions about whole videos
_TRIES = 8


@dataclass(frozen=True)
class StockBatch(SegmentBatch):
    """``asked`` [V, Q]: rows of the question tables. ``sources`` [V, Q, W]: the segments that a prompt is made of.

    ``places`` [V, Q, W]: rows of the moments at which it shows them. ``kept`` [V, Q, W, T]: the frame pairs in it.
    ``answers`` [V, Q, A].
    """

    asked: Tensor
    sources: Tensor
    places: Tensor
    kept: Tensor
    answers: Tensor


@dataclass(frozen=True)
class _Prompt:
    """A question about ``sources``, segments of a script, of which it shows the ``kept`` [W, T] frame pairs."""

    question: Question
    sources: list[int]
    places: list[int]
    kept: Kept

    @property
    def answer(self) -> str:
        """A time is that of the first frame pair that shows what is sought, in whole seconds."""
        if self.question.kind != "when":
            return self.question.answer
        at = self.question.evidence[0]
        scene_s, index = SCENE_LENGTHS_S[self.places[at] // LONGEST_ROW], self.places[at] % LONGEST_ROW
        return told_second(pair_times(scene_s, index)[int(self.kept[at].argmax())])


def told_second(time_s: float) -> str:
    """A time in whole seconds, as they stand in its tag."""
    return time_tag(time_s)[1:].partition(".")[0]


def draw_stock_batch(rng: random.Random, shape: BatchShape, tables: Tables) -> StockBatch:
    """Videos with their questions; prompts of all their segments, or long ones of the same segments again and again."""
    scripts = [training_script(rng, shape.segments, is_sparing=rng.random() < 0.5) for _ in range(shape.videos)]
    rows = [_moments(rng, shape.segments) for _ in scripts]
    prompts = [
        [_prompt(rng, script, own, shape.long) for _ in range(shape.questions)]
        for script, own in zip(scripts, rows, strict=True)
    ]
    asked = [[_over(one.question, s) for one in row] for row, s in zip(prompts, scripts, strict=True)]
    return StockBatch(
        **vars(segment_batch(rng, scripts, asked, rows, tables)),
        asked=tensor([[tables.text_number[spelled(rng, one.question.text)] for one in row] for row in prompts]),
        sources=tensor([[one.sources for one in row] for row in prompts]),
        places=tensor([[one.places for one in row] for row in prompts]),
        kept=tensor([[one.kept for one in row] for row in prompts]).bool(),
        answers=tensor([[tables.answer(one.answer) for one in row] for row in prompts]),
    )


def draw_kept(rng: random.Random, needed: Sequence[int], segments: int) -> Kept:
    """[segments, T]: the frame pairs that a budget might give, few to all; of each ``needed`` segment at least one.

    By turns: everything, any share of the frame pairs or of the segments, hardly more than what is needed.
    """
    share = rng.choice((1.0, rng.random(), rng.random() ** 4, 0.0))
    draws = np.random.default_rng(rng.getrandbits(64))
    kept: Kept = draws.random((segments, PAIRS if rng.random() < 0.7 else 1)) < share
    kept = np.broadcast_to(kept, (segments, PAIRS)).copy()
    for index in needed:
        if not kept[index].any():
            kept[index, rng.sample(range(PAIRS), rng.randint(1, PAIRS))] = True
    return kept


def _prompt(rng: random.Random, script: Script, own: list[int], long: int) -> _Prompt:
    places = _moments(rng, long) if long else own
    if rng.random() < _WHOLE:
        sources = _any_sources(rng, script, long) if long else list(range(len(script.scenes)))
        for _ in range(_TRIES):
            if (found := _about_whole(rng, script, sources, places)) is not None:
                return found
    (question,) = training_questions(rng, script, 1, KINDS)
    if long:
        question, sources = _long(rng, question, script, long)
    else:
        sources = list(range(len(script.scenes)))
    kept = draw_kept(rng, question.evidence, len(sources))
    return _Prompt(question, sources, places, kept)


def _about_whole(rng: random.Random, script: Script, sources: list[int], places: list[int]) -> _Prompt | None:
    """What is asked about a whole video is answered from the segments that are shown of it."""
    kept = draw_kept(rng, [rng.randrange(len(sources))], len(sources))
    kept[rng.randint(1, len(sources)) if rng.random() < 0.3 else len(sources) :] = False  # a shorter video
    seen = Script(tuple(script.scenes[s] for s, pairs in zip(sources, kept, strict=True) if pairs.any()), SHORT_SCENE_S)
    question = draw_question(rng, seen, rng.choice(WHOLE_KINDS), with_held_out=False)
    return None if question is None else _Prompt(question, sources, places, kept)


def _over(question: Question, script: Script) -> Question:
    """The same question about the script's own scenes, as the segments are asked it."""
    relevant = tuple(index for index, scene in enumerate(script.scenes) if question.sought.fits(scene))
    return replace(question, relevant=relevant)


def _any_sources(rng: random.Random, script: Script, count: int) -> list[int]:
    """Segments again and again, of few different ones or of many."""
    pool = rng.sample(range(len(script.scenes)), rng.randint(2, len(script.scenes)))
    often = shown(script.scenes)[:2] * rng.choice((0, 2, 8))
    return rng.choices([*pool, *often], k=count)


def _long(rng: random.Random, question: Question, script: Script, count: int) -> tuple[Question, list[int]]:
    """What the answer needs somewhere among ``count`` segments; the evidence is then where it stands."""
    others = [i for i in range(len(script.scenes)) if i not in (*question.relevant, *question.evidence)]
    sources = [rng.choice(others or range(len(script.scenes))) for _ in range(count)]
    block = 2 if question.kind == "after" else 1
    pieces = [question.evidence[i : i + block] for i in range(0, len(question.evidence), block)]
    begins = [place * block for place in sorted(rng.sample(range(count // block), len(pieces)))]
    for begin, piece in zip(begins, pieces, strict=True):
        sources[begin : begin + block] = piece
    places = tuple(begin + i for begin in begins for i in range(block))
    return replace(question, evidence=places), sources


def _moments(rng: random.Random, count: int) -> list[int]:
    """Rows of a whole video, or of a piece of a longer one."""
    scene_s = rng.choice(SCENE_LENGTHS_S) if rng.random() < 0.5 else SHORT_SCENE_S
    first = 0 if rng.random() < 0.5 else rng.randint(0, LONGEST_ROW - count)
    return [Tables.moment(scene_s, first + index) for index in range(count)]
