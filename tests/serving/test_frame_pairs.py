"""Frame pairs under a token budget: never over it, everything where it fits, evenly where nothing stands out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.frame_pairs import STANDS_OUT, SharedPairs, share_pairs
from tempo_core.allocation import allocate
from tempo_core.values import FloatArray


def shares(scores: list[float], pairs: list[int], cost: int, budget: int) -> SharedPairs:
    return share_pairs(np.array(scores, np.float32), pairs, [cost] * len(pairs), budget)


SEGMENTS = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.integers(1, 4), st.integers(5, 200)), min_size=1, max_size=60
)


@given(SEGMENTS, st.integers(200, 20_000))
def test_what_is_chosen_never_exceeds_the_budget(segments: list[tuple[float, int, int]], budget: int) -> None:
    scores: FloatArray = np.array([score for score, _, _ in segments], np.float32)
    pairs, costs = [count for _, count, _ in segments], [cost for _, _, cost in segments]
    shared = share_pairs(scores, pairs, costs, budget)
    assert sum(len(chosen) * cost for chosen, cost in zip(shared.chosen, costs, strict=True)) <= budget
    for chosen, count in zip(shared.chosen, pairs, strict=True):
        assert list(chosen) == sorted(set(chosen)) and set(chosen) <= set(range(count))


@given(SEGMENTS, st.integers(200, 20_000))
def test_a_more_relevant_segment_of_the_same_length_gets_no_fewer(
    segments: list[tuple[float, int, int]], budget: int
) -> None:
    scores = np.array([score for score, _, _ in segments], np.float32)
    shared = share_pairs(scores, [4] * len(segments), [cost for _, _, cost in segments], budget)
    if shared.rule == "relevance":
        counts = [len(shared.chosen[i]) for i in np.argsort(-scores, kind="stable")]
        assert counts == sorted(counts, reverse=True)


def test_a_budget_that_covers_everything_gives_everything_whatever_the_scores() -> None:
    shared = shares([0.0, 1.0, 0.0], [4, 4, 1], cost=10, budget=90)
    assert shared == SharedPairs(((0, 1, 2, 3), (0, 1, 2, 3), (0,)), "everything")


def test_where_no_score_stands_out_pairs_are_spread_evenly_over_all_segments() -> None:
    scores = [0.5, 0.5 + 0.9 * STANDS_OUT, 0.5, 0.5]
    assert shares(scores, [4, 4, 4, 4], cost=10, budget=40) == SharedPairs(((2,), (2,), (2,), (2,)), "even")


def test_a_score_that_stands_out_shares_by_adaptive_token_allocation_with_a_pair_as_its_unit() -> None:
    scores = [0.1, 0.9, 0.2, 0.1]
    shared = shares(scores, [4, 4, 4, 4], cost=10, budget=70)
    assert shared.rule == "relevance"
    assert [len(chosen) for chosen in shared.chosen] == allocate(scores, 7, 1, 4).tolist()


def test_a_segments_pairs_are_evenly_spaced_inside_it_and_a_single_one_is_the_middle() -> None:
    shared = shares([0.0, 1.0, 0.0], [4, 4, 4], cost=1, budget=4)
    assert shared.chosen == ((2,), (1, 3), (2,))


def test_where_not_every_segment_can_keep_a_pair_the_least_relevant_keep_none() -> None:
    shared = shares([0.1, 0.9, 0.2, 0.3], [4, 4, 4, 4], cost=10, budget=25)
    assert [len(chosen) for chosen in shared.chosen] == [0, 1, 0, 1]


def test_what_a_short_segment_cannot_take_goes_to_other_relevant_ones() -> None:
    shared = shares([0.0, 1.0, 0.9, 0.0, 0.0], [4, 1, 4, 4, 4], cost=1, budget=8)
    assert [len(chosen) for chosen in shared.chosen] == [1, 1, 4, 1, 1]
