"""Adaptive Token Allocation (ATA): each segment's share of the token budget (paper, "Adaptive Token Allocation").

float32 and the order of operations are part of the method: the golden allocations are equal, not near.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tempo_core.errors import BudgetError, UsageError
from tempo_core.values import FloatArray

MIN_TOKENS, MAX_TOKENS = 4, 128  # of a segment (paper)
FLAT_SCORES = 1e-8  # scores closer together than this rank nothing: the budget is spread evenly


def normalized_relevance(scores: npt.ArrayLike) -> FloatArray:
    """z = (score - min) / (max - min) in float32, shape (segments,); all ones where the scores are flat."""
    values = np.asarray(scores, dtype=np.float32)
    if values.size == 0:
        return values
    low, spread = values.min(), values.max() - values.min()
    if spread < FLAT_SCORES:
        return np.ones_like(values)
    z: FloatArray = (values - low) / spread
    return z


def allocate(
    scores: npt.ArrayLike, token_budget: int, min_tokens: int = MIN_TOKENS, max_tokens: int = MAX_TOKENS
) -> npt.NDArray[np.int64]:
    """Memory tokens per segment, shape (segments,), between 1 and ``max_tokens``, in all at most ``token_budget``.

    Every segment keeps ``min_tokens`` (temporal anchors), relevance decides about the rest. Where the budget cannot
    give ``min_tokens`` to each, all get ``token_budget // segments`` first.

    Raises BudgetError if there are more segments than tokens (select fewer segments first), and UsageError for
    scores that are not finite or limits that exclude each other.
    """
    values = np.asarray(scores, dtype=np.float32)
    _check(values, token_budget, min_tokens, max_tokens)
    segments = values.size
    if segments == 0:
        return np.zeros(0, dtype=np.int64)
    low = min_tokens if min_tokens * segments <= token_budget else max(1, token_budget // segments)
    if values.max() - values.min() < FLAT_SCORES:
        return np.full(segments, min(max_tokens, token_budget // segments), dtype=np.int64)
    z = normalized_relevance(values)
    uncapped: npt.NDArray[np.int64] = low + np.floor(z * np.float32(max_tokens - low)).astype(np.int64)
    if uncapped.sum() <= token_budget:
        return uncapped
    return _share(z, token_budget, low, max_tokens)


def _share(z: FloatArray, token_budget: int, low: int, high: int) -> npt.NDArray[np.int64]:
    """The binding budget: proportional to z above ``low``, the remainder one by one to the largest z."""
    spare = np.float32(token_budget - low * z.size)
    tokens: npt.NDArray[np.int64] = np.minimum(low + np.floor(z / z.sum() * spare).astype(np.int64), high)
    remainder = token_budget - int(tokens.sum())
    order = np.argsort(-z, kind="stable")
    while remainder > 0 and (open_ := order[tokens[order] < high]).size:
        tokens[open_[:remainder]] += 1
        remainder = token_budget - int(tokens.sum())
    return tokens


def _check(values: FloatArray, token_budget: int, min_tokens: int, max_tokens: int) -> None:
    if values.ndim != 1 or not np.isfinite(values).all():
        raise UsageError("relevance scores must be one finite number per segment")
    if not 1 <= min_tokens <= max_tokens:
        raise UsageError(f"min_tokens ({min_tokens}) must lie between 1 and max_tokens ({max_tokens})")
    if token_budget < values.size:
        raise BudgetError(
            f"a token budget of {token_budget} cannot hold {values.size} segments: each needs at least one token. "
            "Raise the budget, or ask about fewer segments."
        )
