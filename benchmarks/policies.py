"""Ways to spend a token budget on segments: which memory tokens of each segment reach the answering LLM.

Shapes: S segments, K memory tokens of a segment. A way gives boolean [S, K]; a segment without any token is dropped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks.batched_answers import Kept
from serving.answer import most_relevant
from tempo_core.allocation import MIN_TOKENS, allocate
from tempo_core.values import FloatArray

Counts = npt.NDArray[np.int64]
Random = np.random.Generator
POLICIES = ("ata", "ata-4", "even", "random", "topk", "shuffled")
CUTS = ("head", "tail", "random")
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0, 16.0)  # memory tokens per segment on average


def ata(scores: FloatArray, budget: int, most: int, least: int) -> Counts:
    """Adaptive Token Allocation as the engine does it; with fewer tokens than segments, one each to the most relevant.

    ``least``: what every segment keeps. The published 4 of 128 are a thirty-second; of 16, 4 are already a quarter.
    """
    kept = most_relevant(scores, budget)
    counts = np.zeros(len(scores), dtype=np.int64)
    counts[kept] = allocate(scores[kept], budget, least, most)
    return counts


def even(segments: int, budget: int, most: int) -> Counts:
    """The same number each; with fewer tokens than segments, one to every n-th."""
    counts = np.full(segments, min(most, budget // segments), dtype=np.int64)
    rest = min(budget, most * segments) - int(counts.sum())
    places = ((np.arange(rest) + 0.5) * segments / max(rest, 1)).astype(np.int64)
    counts[places] += 1
    return counts


def at_random(segments: int, budget: int, most: int, rng: Random) -> Counts:
    """One each as with ATA, the rest by chance; with fewer tokens than segments, one to a random few."""
    if budget < segments:
        counts = np.zeros(segments, dtype=np.int64)
        counts[rng.choice(segments, budget, replace=False)] = 1
        return counts
    spare = min(budget, segments * most) - segments
    slots = rng.choice(segments * (most - 1), spare, replace=False)
    found: Counts = 1 + np.bincount(slots // max(most - 1, 1), minlength=segments)
    return found


def top_whole(scores: FloatArray, budget: int, most: int) -> Counts:
    """The most relevant segments whole, what is left of the budget to the next one, nothing to the others."""
    counts = np.zeros(len(scores), dtype=np.int64)
    order = np.argsort(-scores, kind="stable")
    counts[order] = np.clip(budget - most * np.arange(len(scores)), 0, most)
    return counts


def allocated(policy: str, scores: FloatArray, budget: int, limits: tuple[int, int], rng: Random) -> Counts:
    """Memory tokens per segment [S], at most ``budget`` in all. ``limits``: the model's least and most of a segment."""
    least, most = limits
    ways: dict[str, Callable[[], Counts]] = {
        "ata": lambda: ata(scores, budget, most, least),
        "ata-4": lambda: ata(scores, budget, most, MIN_TOKENS),
        "even": lambda: even(len(scores), budget, most),
        "random": lambda: at_random(len(scores), budget, most, rng),
        "topk": lambda: top_whole(scores, budget, most),
        "shuffled": lambda: ata(rng.permutation(scores), budget, most, least),
    }
    counts = ways[policy]()
    assert counts.sum() <= max(budget, 1) and counts.max() <= most, (policy, budget)
    return counts


def head(counts: Counts, most: int) -> Kept:
    """The first tokens of each segment."""
    kept: Kept = np.arange(most)[None] < counts[:, None]
    return kept


def cut(way: str, segments: int, count: int, most: int, rng: Random) -> Kept:
    """``count`` tokens of each segment: the first, the last, or any, in their order."""
    order = np.arange(most)[None].repeat(segments, axis=0)
    if way == "tail":
        order = order[:, ::-1]
    if way == "random":
        order = rng.permuted(order, axis=1)
    kept: Kept = order < count
    return kept


def every_setting(scores: FloatArray, limits: tuple[int, int], rng: Random) -> dict[str, Kept]:
    """Name of a setting to the tokens it keeps: ``policy/tokens per segment`` and ``cut-way/k``."""
    segments, most = len(scores), limits[1]
    settings: dict[str, Kept] = {}
    for share in shares(most):
        budget = max(1, round(share * segments))
        for policy in POLICIES:
            settings[f"{policy}/{share:g}"] = head(allocated(policy, scores, budget, limits, rng), most)
    for count in cut_counts(most):
        for way in CUTS:
            settings[f"cut-{way}/{count}"] = cut(way, segments, count, most, rng)
    return settings


def shares(most: int) -> list[float]:
    """Average tokens per segment that are tried, the last one all there are."""
    return [share for share in SHARES if share < most] + [float(most)]


def cut_counts(most: int) -> list[int]:
    """Tokens per segment that are kept of all."""
    return [int(share) for share in shares(most) if share >= 1]
