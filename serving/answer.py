"""What an answer is: text, the moments it rests on, what it used and how long each step took. Values only.

Times are the player's: the source's own start is added to times that count from its first frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tempo_core.allocation import normalized_relevance
from tempo_core.values import FloatArray

CITED_RELEVANCE = 0.5  # normalized relevance from which a segment is cited
MAX_CITATIONS = 5


@dataclass(frozen=True)
class AskedSegment:
    """A segment of the prompt: when it is, how relevant it scored, how many visual tokens it was given.

    ``pairs``: of how many frame pairs they are; None: they are memory tokens.
    """

    video_id: str
    uri: str
    index: int
    start_s: float
    end_s: float
    relevance: float
    tokens: int
    pairs: int | None = None


@dataclass(frozen=True)
class Citation:
    """A moment the answer rests on: adjacent relevant segments, with the best one's relevance."""

    video_id: str
    uri: str
    start_s: float
    end_s: float
    relevance: float


@dataclass(frozen=True)
class Usage:
    """Tokens: visual tokens used (memory tokens, or those of frame pairs) and allowed, time tags, the whole prompt, the
    answer. What is allowed includes the tags where frame pairs are read."""

    visual_tokens: int
    token_budget: int
    tag_tokens: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Timings:
    """Seconds: ``load`` waiting for states, ``restore`` KV caches, ``route``, ``compress``, ``generate`` beside others,
    ``wait`` for its turn and between its units, ``total``."""

    load: float
    restore: float
    route: float
    compress: float
    generate: float
    wait: float
    total: float


@dataclass(frozen=True)
class Answer:
    """The answer to one question (the fields of ``ask --json``).

    ``model`` judged the segments; ``reader`` answered: the same, or MODEL at URL. ``allocation``: the rule that shared
    the budget.
    """

    answer: str
    question: str
    model: str
    reader: str
    fingerprint: str
    warnings: tuple[str, ...]
    segments: tuple[AskedSegment, ...]
    citations: tuple[Citation, ...]
    allocation: str
    usage: Usage
    timings_s: Timings

    def to_json(self) -> dict[str, object]:
        """Plain values for ``json.dumps``."""
        return asdict(self)


@dataclass(frozen=True)
class SearchHit:
    """A segment found over the library; ``score`` is the cosine of its feature and the question's."""

    video_id: str
    uri: str
    title: str
    index: int
    start_s: float
    end_s: float
    score: float

    def to_json(self) -> dict[str, object]:
        """Plain values for ``json.dumps``."""
        return asdict(self)


def cite(segments: Sequence[AskedSegment], scores: FloatArray) -> tuple[Citation, ...]:
    """Runs of adjacent segments with normalized relevance >= 0.5, best first, at most 5.

    ``scores``: of all that the question was routed over; what the budget left out counts for what is relevant too.
    """
    given = np.array([segment.relevance for segment in segments], dtype=np.float32)
    z = normalized_relevance(np.concatenate([given, scores]))[: len(segments)]
    runs: list[list[AskedSegment]] = []
    for segment, share in zip(segments, z, strict=True):
        if share < CITED_RELEVANCE:
            continue
        if runs and _adjacent(runs[-1][-1], segment):
            runs[-1].append(segment)
        else:
            runs.append([segment])
    citations = [_citation(run) for run in runs]
    return tuple(sorted(citations, key=lambda citation: -citation.relevance)[:MAX_CITATIONS])


def absence(scores: FloatArray, absent_below: float | None) -> tuple[str, ...]:
    """A warning where no segment scores ``absent_below`` or more (None: the model was not calibrated)."""
    best = float(scores.max())
    if absent_below is None or best >= absent_below:
        return ()
    reason = f"none of {len(scores):,} segments read is relevant (at best {best:.3g} of {absent_below:g})"
    return (f"this was probably not shown: {reason}",)


def most_relevant(scores: FloatArray, limit: int) -> list[int]:
    """Positions of the ``limit`` best scores, in their own order (ties: the earlier)."""
    best = np.argsort(-scores, kind="stable")[:limit]
    return sorted(int(position) for position in best)


def _adjacent(before: AskedSegment, after: AskedSegment) -> bool:
    return before.video_id == after.video_id and before.index + 1 == after.index


def _citation(run: Sequence[AskedSegment]) -> Citation:
    best = max(segment.relevance for segment in run)
    return Citation(run[0].video_id, run[0].uri, run[0].start_s, run[-1].end_s, best)
