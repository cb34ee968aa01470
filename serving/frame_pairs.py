"""Which frame pairs a reader sees: a token budget shared by relevance, in whole frame pairs. Numbers only.

everything   the budget covers all pairs: all are given, as a model reads a short video
even         no score stands out, as for a question about the whole: pairs evenly spread over the segments
relevance    Adaptive Token Allocation with a frame pair as its unit
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from serving.answer import most_relevant
from tempo_core.allocation import allocate
from tempo_core.values import FloatArray

Rule = Literal["everything", "even", "relevance"]
# By which the best score must exceed the middle one. Scores are probabilities: below a tenth apart, a model says of all
# segments the same, and normalizing them would make a ranking of its noise. In the drawn world any number from 0.05 to
# 0.9 gives the same answers (benchmarks/routing.py), so real video has to decide.
STANDS_OUT = 0.1


@dataclass(frozen=True)
class SharedPairs:
    """``chosen``: for each segment the indices of its frame pairs, ascending; perhaps none."""

    chosen: tuple[tuple[int, ...], ...]
    rule: Rule


def share_pairs(scores: FloatArray, pairs: Sequence[int], costs: Sequence[int], token_budget: int) -> SharedPairs:
    """``scores``, ``pairs`` and ``costs``: of each segment its relevance, its frame pairs, and the most tokens that one
    of them takes with its tag, of which the budget holds one at least. What is chosen never takes more than it.
    """
    if sum(count * cost for count, cost in zip(pairs, costs, strict=True)) <= token_budget:
        return SharedPairs(tuple(tuple(range(count)) for count in pairs), "everything")
    units = token_budget // max(costs)
    if float(scores.max() - np.median(scores)) < STANDS_OUT:
        return SharedPairs(spread(pairs, units), "even")
    counts = by_relevance(scores, pairs, units)
    chosen = tuple(evenly(have, count) for have, count in zip(pairs, counts, strict=True))
    return SharedPairs(chosen, "relevance")


def by_relevance(scores: FloatArray, pairs: Sequence[int], units: int) -> list[int]:
    """Pairs of each segment; where there are more segments than units, the least relevant get none."""
    kept = most_relevant(scores, units)
    counts = [0] * len(pairs)
    for position, count in zip(kept, allocate(scores[kept], units, 1, max(pairs)), strict=True):
        counts[position] = min(int(count), pairs[position])
    spare = units - sum(counts)  # what short segments could not take goes to the most relevant
    for position in np.argsort(-scores, kind="stable"):
        more = min(spare, pairs[position] - counts[position]) if scores[position] > np.median(scores) else 0
        counts[position] += more
        spare -= more
    return counts


def spread(pairs: Sequence[int], units: int) -> tuple[tuple[int, ...], ...]:
    """``units`` pairs, evenly over all of them in their order."""
    chosen = set(evenly(sum(pairs), units))
    starts = np.cumsum([0, *pairs])
    return tuple(
        tuple(i for i in range(count) if int(start) + i in chosen)
        for start, count in zip(starts[:-1], pairs, strict=True)
    )


def evenly(have: int, count: int) -> tuple[int, ...]:
    """``count`` of ``have`` indices, in the middles of as many equal parts."""
    count = min(have, count)
    return tuple((2 * i + 1) * have // (2 * count) for i in range(count))
