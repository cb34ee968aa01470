"""Training batches of tempo-nano: segments with their questions, and what the answering LLM is prompted with.

Shapes: V videos, N segments of a video, Q questions of a video, W segments of a long prompt, A answer tokens.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from nano.phrasings import KINDS
from nano.questions import Question
from nano.segment_batches import (
    BatchShape,
    SegmentBatch,
    marks,
    segment_batch,
    tensor,
    training_questions,
    training_script,
)
from nano.tables import IntArray, Tables
from nano.world import LONGEST_ROW, SCENE_LENGTHS_S, SHORT_SCENE_S, Script

Tensor = torch.Tensor
_SEVERAL = 0.25  # the share of prompts over several videos
MOST_VIDEOS = 4  # of one prompt


@dataclass(frozen=True)
class Batch(SegmentBatch):
    """``titles`` [V, N]: rows of that table. ``answers`` [V, Q, A]. ``needed`` [V, Q, N]: segments that the answer is
    read from. The rest are long prompts made of the same segments: ``long_sources`` [V, Q, W] segment,
    ``long_moments``, ``long_needed``, ``long_relevant`` [V, Q, W], ``long_answers`` [V, Q, A].
    """

    titles: Tensor
    answers: Tensor
    needed: Tensor
    long_sources: Tensor
    long_moments: Tensor
    long_needed: Tensor
    long_relevant: Tensor
    long_answers: Tensor


@dataclass(frozen=True)
class _Long:
    """A long prompt: rows of the batch's fields of the same names."""

    sources: list[int]
    moments: list[int]
    needed: list[int]
    relevant: list[int]
    answer: IntArray


def draw_batch(rng: random.Random, shape: BatchShape, tables: Tables) -> Batch:
    """Videos with their questions."""
    scripts = [training_script(rng, shape.segments) for _ in range(shape.videos)]
    asked = [training_questions(rng, script, shape.questions, KINDS) for script in scripts]
    laid = [_laid_out(rng, qs, script, tables) for qs, script in zip(asked, scripts, strict=True)]
    # a time is said within its own video: answers of "when" follow the tags
    spoken = [[_spoken(q, rows) for q in qs] for qs, (rows, _) in zip(asked, laid, strict=True)]
    long = [[_long(rng, q, script, shape.long, tables) for q in qs] for qs, script in zip(asked, scripts, strict=True)]
    segments = segment_batch(rng, scripts, asked, [rows for rows, _ in laid], tables)
    return Batch(
        **vars(segments),
        titles=tensor([titles for _, titles in laid]),
        answers=tensor([[tables.answer(answer) for answer in row] for row in spoken]),
        needed=tensor([[marks(q.evidence, shape.segments) for q in qs] for qs in asked]).bool(),
        long_sources=tensor([[one.sources for one in row] for row in long]),
        long_moments=tensor([[one.moments for one in row] for row in long]),
        long_needed=tensor([[one.needed for one in row] for row in long]).bool(),
        long_relevant=tensor([[one.relevant for one in row] for row in long]).bool(),
        long_answers=tensor([[one.answer for one in row] for row in long]),
    )


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
