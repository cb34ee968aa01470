"""Adaptive Token Allocation: the published rule inside its sound range, and what holds outside of it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tempo_core import allocate
from tempo_core.allocation import normalized_relevance
from tempo_core.errors import BudgetError, UsageError

FLAT = np.float32(1e-8)

relevance = st.floats(0, 1, width=32)
some_scores = st.lists(relevance, min_size=1, max_size=60) | st.lists(
    st.sampled_from([0.0, 0.25, 0.5, 0.5000001, 1.0]), min_size=1, max_size=60
)
limits = st.tuples(st.integers(1, 12), st.integers(0, 140)).map(lambda pair: (pair[0], pair[0] + pair[1]))
budgets = st.integers(1, 600) | st.integers(600, 10_000)


def wanted(scores: list[float], budget: int, low_wish: int, high: int) -> tuple[int, list[np.float32], list[int]]:
    """(low, z, what each would get if the budget did not bind), one float32 scalar operation after the other."""
    values = [np.float32(score) for score in scores]
    low = low_wish if low_wish * len(values) <= budget else max(1, budget // len(values))
    spread = max(values) - min(values)
    z = [(value - min(values)) / spread for value in values]
    return low, z, [low + math.floor(np.float32(one * np.float32(high - low))) for one in z]


def restated(scores: list[float], budget: int, low_wish: int = 4, high: int = 128) -> list[int]:
    """The rule again, segment by segment, for scores that are not flat."""
    low, z, tokens = wanted(scores, budget, low_wish, high)
    if sum(tokens) <= budget:
        return tokens
    spare, total = np.float32(budget - low * len(z)), np.array(z, np.float32).sum()
    tokens = [min(high, low + math.floor(np.float32(np.float32(one / total) * spare))) for one in z]
    ranked = sorted(range(len(z)), key=lambda i: (-z[i], i))
    while sum(tokens) < budget:
        for i in ranked:
            if sum(tokens) < budget and tokens[i] < high:
                tokens[i] += 1
    return tokens


def is_flat(scores: list[float]) -> bool:
    values = np.array(scores, np.float32)
    return bool(values.max() - values.min() < FLAT)


@given(some_scores, budgets, limits)
def test_never_over_budget(scores: list[float], budget: int, limit: tuple[int, int]) -> None:
    assume(len(scores) <= budget)
    assert allocate(scores, budget, *limit).sum() <= budget


@given(some_scores, budgets, limits)
def test_each_gets_at_least_one_and_at_most_the_maximum(
    scores: list[float], budget: int, limit: tuple[int, int]
) -> None:
    assume(len(scores) <= budget)
    tokens = allocate(scores, budget, *limit)
    assert tokens.shape == (len(scores),)
    assert tokens.min() >= 1
    assert tokens.max() <= limit[1]


@given(some_scores, budgets, limits)
def test_each_keeps_its_temporal_anchor_where_the_budget_holds_them(
    scores: list[float], budget: int, limit: tuple[int, int]
) -> None:
    assume(limit[0] * len(scores) <= budget)
    assert allocate(scores, budget, *limit).min() >= limit[0]


@given(some_scores, budgets, limits)
def test_a_higher_score_never_gets_less(scores: list[float], budget: int, limit: tuple[int, int]) -> None:
    assume(len(scores) <= budget)
    tokens, values = allocate(scores, budget, *limit), np.array(scores, np.float32)
    equals = [tokens[values == value] for value in np.unique(values)]  # ascending
    assert all(lower.max() <= higher.min() for lower, higher in pairwise(equals))


@given(some_scores, budgets, limits)
def test_equal_scores_differ_by_one_at_most_and_the_earlier_gets_it(
    scores: list[float], budget: int, limit: tuple[int, int]
) -> None:
    assume(len(scores) <= budget)
    tokens = allocate(scores, budget, *limit)
    for value in np.unique(np.array(scores, np.float32)):
        equal = tokens[np.array(scores, np.float32) == value]
        assert equal.max() - equal.min() <= 1
        assert (np.diff(equal) <= 0).all()


@given(relevance, st.integers(1, 60), budgets, limits)
def test_flat_scores_spread_the_budget_evenly(score: float, segments: int, budget: int, limit: tuple[int, int]) -> None:
    assume(segments <= budget)
    each = min(limit[1], budget // segments)
    assert allocate([score] * segments, budget, *limit).tolist() == [each] * segments


def test_scores_closer_than_1e_8_are_flat() -> None:
    assert allocate([0.0, 9e-9], 20).tolist() == [10, 10]
    assert allocate([0.0, 2e-8], 20).tolist() == [4, 16]


@given(some_scores, budgets, limits)
@example([0.0, 0.5, 1.0], 10_000, (4, 128))
def test_with_plenty_of_budget_the_closed_form_holds(scores: list[float], budget: int, limit: tuple[int, int]) -> None:
    assume(len(scores) <= budget and not is_flat(scores))
    _, _, tokens = wanted(scores, budget, *limit)
    assume(sum(tokens) <= budget)
    assert allocate(scores, budget, *limit).tolist() == tokens


@given(some_scores, budgets, limits)
@example([0.0, 0.5, 1.0], 20, (4, 128))
def test_a_binding_budget_is_used_whole(scores: list[float], budget: int, limit: tuple[int, int]) -> None:
    assume(len(scores) <= budget and not is_flat(scores))
    assume(sum(wanted(scores, budget, *limit)[2]) > budget)
    assert allocate(scores, budget, *limit).sum() == budget


@given(some_scores, budgets, limits)
def test_each_float32_operation_is_done_in_the_published_order(
    scores: list[float], budget: int, limit: tuple[int, int]
) -> None:
    assume(len(scores) <= budget and not is_flat(scores))
    assert allocate(scores, budget, *limit).tolist() == restated(scores, budget, *limit)


def test_minimum_gives_way_where_the_budget_cannot_hold_it() -> None:
    assert allocate([0.1, 0.9, 0.5, 0.2], 9).tolist() == [2, 3, 2, 2]
    assert allocate([0.1, 0.9, 0.5, 0.2], 4).tolist() == [1, 1, 1, 1]


def test_remainder_goes_to_the_most_relevant_one_by_one() -> None:
    assert allocate([0.0, 0.5, 0.5, 1.0], 4 * 4 + 2).tolist() == [4, 4, 4, 6]
    assert allocate([0.0, 0.5, 0.5, 1.0], 4 * 4 + 3).tolist() == [4, 5, 4, 6]


def test_no_segments_get_no_tokens() -> None:
    assert allocate([], 0).tolist() == []
    assert normalized_relevance([]).tolist() == []


@given(st.lists(relevance, min_size=2, max_size=60), st.integers(0, 59))
def test_more_segments_than_tokens_is_an_error_that_says_the_way_out(scores: list[float], budget: int) -> None:
    assume(budget < len(scores))
    with pytest.raises(BudgetError, match=rf"{budget} cannot hold {len(scores)} segments.*fewer segments"):
        allocate(scores, budget)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_are_refused(broken: float) -> None:
    with pytest.raises(UsageError, match="finite"):
        allocate([0.5, broken, 0.1], 100)


@pytest.mark.parametrize("shape", [(2, 2), ()])
def test_scores_are_one_per_segment(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="one finite number per segment"):
        allocate(np.zeros(shape), 100)


@pytest.mark.parametrize(("low", "high"), [(0, 128), (-1, 128), (5, 4)])
def test_limits_that_exclude_each_other_are_refused(low: int, high: int) -> None:
    with pytest.raises(UsageError, match="min_tokens"):
        allocate([0.1, 0.2], 100, low, high)


@given(some_scores)
def test_normalized_relevance_runs_from_zero_to_one(scores: list[float]) -> None:
    z: npt.NDArray[np.float32] = normalized_relevance(scores)
    assert z.dtype == np.float32
    if is_flat(scores):
        assert (z == 1).all()
    else:
        assert (z.min(), z.max()) == (0, 1)
