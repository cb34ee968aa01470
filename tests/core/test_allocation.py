"""Adaptive Token Allocation: the published rule inside its sound range, and what holds outside of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tempo_core import allocate
from tempo_core.allocation import normalized_relevance
from tempo_core.errors import BudgetError, UsageError

relevance = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.25, 0.5, 0.5000001, 1.0])
some_scores = st.lists(relevance, min_size=1, max_size=60)
uneven_scores = st.tuples(some_scores, st.randoms(use_true_random=False)).map(lambda drawn: spread_out(*drawn))


@dataclass(frozen=True)
class Problem:
    """What is to be shared, among whom, between which limits; the budget holds one token for each."""

    scores: list[float]
    budget: int
    low: int
    high: int

    @property
    def values(self) -> npt.NDArray[np.float32]:
        return np.array(self.scores, np.float32)

    def solved(self) -> npt.NDArray[np.int64]:
        return allocate(self.scores, self.budget, self.low, self.high)


def spread_out(scores: list[float], random: Random) -> list[float]:
    """The same with two scores that are surely apart."""
    mixed = [*scores, 0.125, 0.875]
    random.shuffle(mixed)
    return mixed


def problems(
    scores: st.SearchStrategy[list[float]], spare: st.SearchStrategy[int] | None = None
) -> st.SearchStrategy[Problem]:
    """``spare``: tokens in the budget beyond one for each segment."""
    beyond = st.integers(0, 600) | st.integers(600, 10_000) if spare is None else spare
    return st.builds(
        lambda scores, spare, low, span: Problem(scores, len(scores) + spare, low, low + span),
        scores,
        beyond,
        st.integers(1, 12),
        st.integers(0, 140),
    )


def wanted(problem: Problem) -> tuple[int, list[np.float32], list[int]]:
    """(low, z, what each would get if the budget did not bind), one float32 scalar operation after the other."""
    values, budget, high = list(problem.values), problem.budget, problem.high
    low = problem.low if problem.low * len(values) <= budget else max(1, budget // len(values))
    spread = max(values) - min(values)
    z = [(value - min(values)) / spread for value in values]
    return low, z, [low + math.floor(np.float32(one * np.float32(high - low))) for one in z]


def restated(problem: Problem) -> list[int]:
    """The rule again, segment by segment, for scores that are not flat."""
    low, z, tokens = wanted(problem)
    budget, high = problem.budget, problem.high
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


@given(problems(some_scores))
def test_never_over_budget(problem: Problem) -> None:
    assert problem.solved().sum() <= problem.budget


@given(problems(some_scores))
def test_each_gets_at_least_one_and_at_most_the_maximum(problem: Problem) -> None:
    tokens = problem.solved()
    assert tokens.shape == (len(problem.scores),)
    assert tokens.min() >= 1
    assert tokens.max() <= problem.high


@given(problems(some_scores))
def test_each_keeps_its_temporal_anchor_where_the_budget_holds_them(problem: Problem) -> None:
    roomy = replace(problem, budget=problem.budget + problem.low * len(problem.scores))
    assert roomy.solved().min() >= roomy.low


@given(problems(some_scores))
def test_a_higher_score_never_gets_less(problem: Problem) -> None:
    tokens, values = problem.solved(), problem.values
    equals = [tokens[values == value] for value in np.unique(values)]  # ascending
    assert all(lower.max() <= higher.min() for lower, higher in pairwise(equals))


@given(problems(some_scores))
def test_equal_scores_differ_by_one_at_most_and_the_earlier_gets_it(problem: Problem) -> None:
    tokens, values = problem.solved(), problem.values
    for value in np.unique(values):
        equal = tokens[values == value]
        assert equal.max() - equal.min() <= 1
        assert (np.diff(equal) <= 0).all()


@given(problems(st.tuples(relevance, st.integers(1, 60)).map(lambda drawn: [drawn[0]] * drawn[1])))
def test_flat_scores_spread_the_budget_evenly(problem: Problem) -> None:
    segments = len(problem.scores)
    each = min(problem.high, problem.budget // segments)
    assert problem.solved().tolist() == [each] * segments


def test_scores_closer_than_1e_8_are_flat() -> None:
    assert allocate([0.0, 9e-9], 20).tolist() == [10, 10]
    assert allocate([0.0, 2e-8], 20).tolist() == [4, 16]


@given(problems(uneven_scores, spare=st.just(62 * 152)))
@example(Problem([0.0, 0.5, 1.0], 10_000, 4, 128))
def test_with_plenty_of_budget_the_closed_form_holds(problem: Problem) -> None:
    _, _, tokens = wanted(problem)
    assert sum(tokens) <= problem.budget
    assert problem.solved().tolist() == tokens


@given(problems(uneven_scores), st.floats(0, 1))
@example(Problem([0.0, 0.5, 1.0], 20, 4, 128), 1.0)
def test_a_binding_budget_is_used_whole(problem: Problem, share: float) -> None:
    segments = len(problem.scores)
    most = sum(wanted(replace(problem, budget=10**6))[2])
    binding = replace(problem, budget=segments + int(share * (most - 1 - segments)) if most > segments else segments)
    tokens = binding.solved()
    if sum(wanted(binding)[2]) > binding.budget:
        assert tokens.sum() == binding.budget
    else:  # a smaller low made room
        assert tokens.tolist() == wanted(binding)[2]


@given(problems(uneven_scores))
def test_each_float32_operation_is_done_in_the_published_order(problem: Problem) -> None:
    assert problem.solved().tolist() == restated(problem)


@pytest.mark.parametrize(
    ("scores", "budget", "tokens"),
    [
        ([0.484375, 0.796875, 0.125, 0.375, 0.21875], 108, [27, 48, 4, 19, 10]),
        ([0.875, 0.78125, 0.890625, 0.234375, 0.828125], 202, [52, 44, 53, 4, 49]),
        ([0.703125, 0.75, 0.8125], 72, [4, 21, 47]),
        ([0.203125, 1.0, 0.015625, 0.90625, 0.640625], 235, [18, 83, 4, 76, 54]),
    ],
)
def test_another_order_or_precision_would_give_other_tokens(
    scores: list[float], budget: int, tokens: list[int]
) -> None:
    """Scores at which z * spare / sum(z), z * (spare / sum(z)) and float64 all differ from the published order."""
    assert restated(Problem(scores, budget, 4, 128)) == tokens
    assert allocate(scores, budget).tolist() == tokens


def test_minimum_gives_way_where_the_budget_cannot_hold_it() -> None:
    assert allocate([0.1, 0.9, 0.5, 0.2], 9).tolist() == [2, 3, 2, 2]
    assert allocate([0.1, 0.9, 0.5, 0.2], 4).tolist() == [1, 1, 1, 1]


def test_remainder_goes_to_the_most_relevant_one_by_one() -> None:
    assert allocate([0.0, 0.5, 0.5, 1.0], 4 * 4 + 2).tolist() == [4, 4, 4, 6]
    assert allocate([0.0, 0.5, 0.5, 1.0], 4 * 4 + 3).tolist() == [4, 5, 4, 6]


def test_no_segments_get_no_tokens() -> None:
    assert allocate([], 0).tolist() == []
    assert normalized_relevance([]).tolist() == []


@given(some_scores, st.integers(1, 60))
def test_more_segments_than_tokens_is_an_error_that_says_the_way_out(scores: list[float], lacking: int) -> None:
    budget = max(0, len(scores) - lacking)
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


@given(uneven_scores)
def test_normalized_relevance_runs_from_zero_to_one(scores: list[float]) -> None:
    z = normalized_relevance(scores)
    assert z.dtype == np.float32
    assert (z.min(), z.max()) == (0, 1)


def test_flat_scores_are_all_of_full_relevance() -> None:
    assert normalized_relevance([0.3, 0.3, 0.3]).tolist() == [1, 1, 1]
