"""Which frames are taken where key frames are sampled: rate, gap and cap, on times alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempo_core.decoding.keyframes import key_ranks
from tempo_core.spec import NAMED_SPECS, IndexSpec

KEYFRAMES = NAMED_SPECS["keyframes"]
MS = Fraction(1000)  # ticks a second


def taken_s(times_s: list[float], keys_s: list[float], length_s: float, spec: IndexSpec = KEYFRAMES) -> list[float]:
    """The times of the frames taken."""
    ticks = np.array([round(time * 1000) for time in times_s], np.int64)
    keys = np.isin(ticks, [round(time * 1000) for time in keys_s])
    ranks = key_ranks(ticks, keys, Fraction(round(length_s * 1000)), MS, spec)
    assert ranks == sorted(set(ranks))
    return [int(ticks[rank]) / 1000 for rank in ranks]


def every(step_s: float, length_s: float) -> list[float]:
    return [k * step_s for k in range(round(length_s / step_s))]


def test_key_frames_within_rate_and_gap_are_all_taken() -> None:
    assert taken_s(every(0.1, 60), every(2, 60), 60) == every(2, 60)


def test_the_longest_groups_of_common_encoders_need_no_frame_between() -> None:
    film = [k * 1001 / 24000 for k in range(24000)]
    assert len(taken_s(film, film[::250], 1001)) == 96


def test_key_frames_that_come_too_fast_wait_for_half_a_second() -> None:
    assert taken_s(every(0.1, 20), every(0.2, 20), 20)[:4] == [0, 0.6, 1.2, 1.8]


def test_long_gaps_are_filled_evenly_from_the_start_to_the_end() -> None:
    assert taken_s(every(0.1, 100), [0, 30], 100)[:4] == [0, 10, 20, 30]
    assert taken_s(every(0.1, 100), [0, 30], 100)[4:] == [40, 50, 60, 70, 80, 90]


def test_a_short_video_has_the_least_number_of_frames() -> None:
    assert taken_s(every(0.04, 2), [0], 2) == [0, 0.48, 1, 1.48]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_frame_is_never_taken_twice(frames: int) -> None:
    assert len(taken_s(every(1, frames), [0], frames)) == frames


def test_a_still_is_taken_once_however_long_it_is_shown() -> None:
    assert taken_s([0, 1, 2, 300], [0, 300], 310, replace(KEYFRAMES, min_frames=1)) == [0, 2, 300]


def test_the_cap_wins_and_spreads_what_is_left() -> None:
    spec = replace(KEYFRAMES, max_frames=50)
    keys = taken_s(every(0.1, 600), every(2, 600), 600, spec)
    assert keys == every(12, 600)
    none = taken_s(every(0.1, 600), [0], 600, spec)
    assert 45 <= len(none) <= 50 and max(b - a for a, b in pairwise([*none, 600])) < 14


videos = st.lists(st.integers(1, 4000), min_size=1, max_size=200).flatmap(
    lambda gaps: st.tuples(st.just(gaps), st.lists(st.booleans(), min_size=len(gaps), max_size=len(gaps)))
)


@given(videos, st.sampled_from([None, 8, 40]), st.integers(1, 6))
def test_the_promises_hold_for_any_video(video: tuple[list[int], list[bool]], most: int | None, least: int) -> None:
    gaps, marks = video
    ticks = np.cumsum([5000, *gaps]).astype(np.int64)
    keys = np.array([True, *marks])
    length = Fraction(int(ticks[-1] - ticks[0]) + 40)
    spec = replace(KEYFRAMES, max_frames=most, min_frames=least)
    ranks = key_ranks(ticks, keys, length, MS, spec)
    assert ranks[0] == 0 and ranks == sorted(set(ranks))
    assert most is None or len(ranks) <= most
    uncapped = key_ranks(ticks, keys, length, MS, replace(spec, max_frames=None))
    if most is None or len(uncapped) <= most:
        assert_close_enough(ticks, ranks, ticks[0] + length, min(Fraction(11000), length / least))


def assert_close_enough(ticks: np.ndarray, ranks: list[int], end: Fraction, longest: Fraction) -> None:
    """Nowhere is anything shown longer than ``longest`` after a sample's frame was replaced, and not looked at."""
    for rank, following in pairwise([*ranks, len(ticks)]):
        stop = end if following == len(ticks) else int(ticks[following])
        replaced = end if rank + 1 == len(ticks) else int(ticks[rank + 1])
        assert stop - replaced <= longest
