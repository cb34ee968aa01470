"""A timeline from packets: sorted, from the first key frame, joined where it restarts, without single flipped times."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempo_core.decoding.probe_worker import HIDDEN, KEY, NO_TIME
from tempo_core.decoding.timeline import Timeline, timeline

BASE = Fraction(1, 1000)
GAP = 40


def packets(count: int, start: int = 0, gap: int = GAP) -> npt.NDArray[np.int64]:
    """Packets in decoding order, presented in that order; every tenth is a key frame."""
    times = start + gap * np.arange(count)
    flags = np.where(np.arange(count) % 10 == 0, KEY, 0)
    return np.stack([times, times, np.full(count, gap), flags], axis=1).astype(np.int64)


def timeline_of(rows: npt.NDArray[np.int64]) -> Timeline:
    return timeline(rows, BASE, dts_only=False)


def ticks(rows: npt.NDArray[np.int64]) -> list[int]:
    return list(timeline_of(rows).ticks)


def test_reordered_frames_are_shown_in_the_order_of_their_times() -> None:
    rows = packets(5)
    rows[1:3, 0] = rows[[2, 1], 0]
    assert ticks(rows) == [0, 40, 80, 120, 160]


def test_hidden_frames_are_decoded_but_not_shown() -> None:
    rows = packets(30)
    rows[:15, 3] |= HIDDEN
    shown = timeline_of(rows)
    assert shown.ticks.tolist() == [40 * k for k in range(15, 30)]
    assert shown.unkeyed == 0  # the hidden key frame at 0 makes frame 15 decodable


def test_nothing_before_the_first_key_frame_is_shown() -> None:
    shown = timeline_of(packets(30)[3:])
    assert (shown.ticks[0], shown.unkeyed) == (400, 7)


def test_frames_that_lead_the_first_key_frame_are_not_shown() -> None:
    rows = packets(30)
    rows[0, 0], rows[1, 0] = 40, 0  # the second packet refers to what came before the recording
    shown = timeline_of(rows)
    assert (shown.ticks[0], shown.unkeyed) == (40, 1)


def test_without_any_key_frame_marked_all_frames_count() -> None:
    rows = packets(30)
    rows[:, 3] = 0
    assert len(ticks(rows)) == 30


def test_decoding_times_serve_where_there_are_no_others() -> None:
    rows = packets(30)
    rows[:, 0] = NO_TIME
    shown = timeline_of(rows)
    assert shown.clock.first == 0 and shown.ticks.tolist() == [40 * k for k in range(30)]


def test_a_second_field_without_a_time_is_no_frame_of_its_own() -> None:
    rows = packets(30, gap=20)
    rows[1::2, 0] = NO_TIME
    shown = timeline_of(rows)
    assert shown.clock.is_plain and shown.ticks.tolist() == [40 * k for k in range(15)]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=4))
def test_parts_are_joined_whatever_their_own_times(starts: list[int]) -> None:
    parts = [packets(20, start) for start in starts]
    shown = timeline_of(np.concatenate(parts))
    restarts = sum(not -1000 <= b - (a + 19 * GAP) <= 3_600_000 for a, b in pairwise(starts))
    assert len(shown.clock.shifts) == restarts
    assert len(shown.ticks) <= 20 * len(starts) and (np.diff(shown.ticks) > 0).all()
    if restarts == len(starts) - 1:
        assert (np.diff(shown.ticks) == GAP).all() and len(shown.ticks) == 20 * len(starts)


@pytest.mark.parametrize(("pause_s", "joined"), [(3599, 0), (3601, 1)])
def test_a_pause_of_over_an_hour_is_taken_for_a_restart(pause_s: int, joined: int) -> None:
    shown = timeline_of(np.concatenate([packets(20), packets(20, 19 * GAP + 1000 * pause_s)]))
    assert len(shown.clock.shifts) == joined


@given(st.integers(1, 28), st.integers(2000, 10**12), st.sampled_from([-1, 1]))
def test_one_flipped_time_is_left_out(index: int, error: int, sign: int) -> None:
    rows = packets(30)
    rows[index, :2] += sign * error
    shown = timeline_of(rows)
    assert shown.ticks.tolist() == [40 * k for k in range(30) if k != index]
    assert shown.clock.shifts == ()


@given(st.lists(st.integers(1, 800_000), min_size=8, max_size=40), st.integers(1, 4))
def test_reordered_stills_of_minutes_are_no_damage(lengths: list[int], depth: int) -> None:
    times = np.cumsum([0, *lengths])
    rows = packets(len(times))
    rows[:, 1] = times
    rows[:, 0] = np.append(times, times[-1] + 600_000 * np.arange(1, depth + 1))[depth:]  # decoded so many frames early
    assert ticks(rows) == rows[:, 0].tolist()


@given(st.lists(st.integers(0, 5000), max_size=40), st.integers(-(10**9), 10**9), st.sets(st.integers(0, 40)))
def test_times_that_repeat_are_absent_or_begin_below_zero_cost_no_other(
    lengths: list[int], start: int, absent: set[int]
) -> None:
    times = np.cumsum([start, *lengths, GAP, GAP])  # a length of 0 repeats a time
    rows = packets(len(times) - 2)
    rows[:, 0], rows[:, 1] = times[2:], times[:-2]  # decoded two frames early
    rows[[k for k in absent if k < len(rows)], 1] = NO_TIME
    assert ticks(rows) == sorted(set(times[2:].tolist()))


def test_a_flipped_presentation_time_is_left_out() -> None:
    rows = packets(60)
    rows[30, 0] += 2**20
    assert ticks(rows) == [40 * k for k in range(60) if k != 30]


def test_no_packets_make_an_empty_timeline() -> None:
    assert ticks(packets(0)) == []
