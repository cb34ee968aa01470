from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget import DEFAULT_TOKEN_BUDGET, PromptRoom, fit_budget, fit_visual_budget
from tempo_core.errors import BudgetError

ROOM = PromptRoom(context=16384, fixed=300, tag=8, segment=128, anchor=4)


def test_a_long_video_keeps_all_segments_and_the_default_budget() -> None:
    fit = fit_budget(None, 128, ROOM)
    assert (fit.segment_count, fit.token_budget, fit.warnings) == (128, DEFAULT_TOKEN_BUDGET, ())


def test_a_budget_that_was_asked_for_is_kept_or_refused_never_changed() -> None:
    assert fit_budget(8192, 128, ROOM).token_budget == 8192
    with pytest.raises(BudgetError, match="Ask for at most 15060"):
        fit_budget(16000, 128, ROOM)


def test_a_large_budget_for_few_segments_fits_because_they_cannot_use_it() -> None:
    assert fit_budget(100_000, 4, ROOM).segment_count == 4


def test_segments_that_the_context_cannot_hold_are_left_out_aloud() -> None:
    fit = fit_budget(None, 9000, ROOM)
    assert fit.segment_count < 9000
    assert "most relevant of 9,000 segments" in fit.warnings[0]


def test_a_smaller_anchor_keeps_more_segments() -> None:
    assert fit_budget(None, 9000, replace(ROOM, anchor=1)).segment_count > fit_budget(None, 9000, ROOM).segment_count


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(BudgetError, match="at least 1"):
        fit_budget(0, 3, ROOM)


def test_a_question_that_fills_the_context_is_refused() -> None:
    with pytest.raises(BudgetError, match="no room"):
        fit_budget(None, 3, PromptRoom(context=500, fixed=495, tag=8, segment=128, anchor=4))


@given(
    st.none() | st.integers(1, 20_000),
    st.integers(1, 20_000),
    st.integers(200, 40_000),
    st.integers(1, 400),
    st.integers(1, 12),
)
def test_whatever_fits_is_inside_the_context_and_gives_every_segment_a_token(
    asked: int | None, segments: int, context: int, fixed: int, tag: int
) -> None:
    try:
        fit = fit_budget(asked, segments, PromptRoom(context, fixed, tag, 128, 4))
    except BudgetError:
        return
    visual = min(fit.token_budget, 128 * fit.segment_count)
    assert fixed + fit.segment_count * tag + visual <= context
    assert 1 <= fit.segment_count <= min(segments, fit.token_budget)


def test_a_budget_below_one_frame_pair_is_refused_with_what_a_pair_takes() -> None:
    with pytest.raises(BudgetError, match="a token budget of 9 holds no frame pair, which takes 10 tokens"):
        fit_visual_budget(9, segment_count=5, pair=10, useful=200, free=1000)


def test_visual_tokens_of_everything_may_be_fewer_than_the_default_budget() -> None:
    assert fit_visual_budget(None, segment_count=1, pair=10, useful=40, free=1000).warnings == ()
