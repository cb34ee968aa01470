"""How good relevance scores are against the script: AUC, precision and recall, the score that tells absence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float, float]:
    """A share and its 95 % interval by Wilson's score; NaN where nothing was counted."""
    if not of:
        return float("nan"), float("nan"), float("nan")
    share, spread = right / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * float(np.sqrt(share * (1 - share) / of + spread / (4 * of)))
    return share, max(0.0, middle - half), min(1.0, middle + half)


def auc(scores: Floats, relevant: Flags) -> float:
    """The chance that a relevant one scores above one that is not (a tie counts half); NaN where either is missing."""
    positives, negatives = np.sort(scores[relevant]), np.sort(scores[~relevant])
    if not len(positives) or not len(negatives):
        return float("nan")
    below = np.searchsorted(negatives, positives, side="left")
    up_to = np.searchsorted(negatives, positives, side="right")
    return float((below + up_to).mean() / 2 / len(negatives))


def at_threshold(scores: Floats, relevant: Flags, threshold: float) -> dict[str, float | None]:
    """Precision and recall of the segments at or above ``threshold``."""
    chosen = scores >= threshold
    hits = int((chosen & relevant).sum())
    precision = round(hits / int(chosen.sum()), 4) if chosen.any() else None
    recall = round(hits / int(relevant.sum()), 4) if relevant.any() else None
    return {"threshold": threshold, "precision": precision, "recall": recall}


def honest_threshold(shown: Floats, absent: Floats) -> float:
    """The best score of a video below which "this is not in the video" is right most often, both cases weighed alike.

    ``shown``: best scores of questions whose thing is shown, ``absent``: of those whose thing is not. Halfway between
    two scores that were seen; of several equally good ones the middle one.
    """
    candidates = np.unique(np.concatenate([shown, absent]))
    edges = (candidates[1:] + candidates[:-1]) / 2
    found = (shown[None] >= edges[:, None]).mean(axis=1)
    refused = (absent[None] < edges[:, None]).mean(axis=1)
    best = np.flatnonzero(found + refused == (found + refused).max())
    return float(edges[best[len(best) // 2]])


def summary(scores: Sequence[Floats], relevant: Sequence[Flags]) -> dict[str, object]:
    """Of all segments together and within each question; ``scores`` and ``relevant``: per question, per segment."""
    pooled, truth = np.concatenate(scores), np.concatenate(relevant)
    each = [auc(values, flags) for values, flags in zip(scores, relevant, strict=True)]
    return {
        "segments": len(pooled),
        "relevant": int(truth.sum()),
        "auc": rounded(auc(pooled, truth)),
        "auc_within_a_question": rounded(_mean(each)),
        "thresholds": [at_threshold(pooled, truth, threshold) for threshold in THRESHOLDS],
    }


def _mean(values: Sequence[float]) -> float:
    """Of those that are numbers."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def rounded(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else round(value, 4)
