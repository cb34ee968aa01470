"""A timeline from packets: sorted, from the first key frame, joined where it restarts, deaf to single flipped times."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import ceil
from types import CodeType

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from tempo_core.decoding.probe_worker import HIDDEN, KEY, NO_TIME
from tempo_core.decoding.schedule import Schedule, schedule, selection
from tempo_core.decoding.timeline import timeline
from tempo_core.decoding.video import VideoInfo
from tempo_core.sampling import Sampling

BASE = Fraction(1, 1000)
GAP = 40


def packets(count: int, start: int = 0, gap: int = GAP) -> npt.NDArray[np.int64]:
    """Packets in decoding order, presented in that order; every tenth is a key frame."""
    times = start + gap * np.arange(count)
    flags = np.where(np.arange(count) % 10 == 0, KEY, 0)
    return np.stack([times, times, np.full(count, gap), flags], axis=1).astype(np.int64)


def ticks(rows: npt.NDArray[np.int64], dts_only: bool = False) -> list[int]:
    return list(timeline(rows, BASE, dts_only).ticks)


def test_reordered_frames_are_shown_in_the_order_of_their_times() -> None:
    rows = packets(5)
    rows[1:3, 0] = rows[[2, 1], 0]
    assert ticks(rows) == [0, 40, 80, 120, 160]


def test_hidden_frames_are_decoded_but_not_shown() -> None:
    rows = packets(30)
    rows[:15, 3] |= HIDDEN
    found = timeline(rows, BASE, dts_only=False)
    assert found.ticks.tolist() == [40 * k for k in range(15, 30)]
    assert found.unkeyed == 0  # the hidden key frame at 0 makes frame 15 decodable


def test_nothing_before_the_first_key_frame_is_shown() -> None:
    found = timeline(packets(30)[3:], BASE, dts_only=False)
    assert (found.ticks[0], found.unkeyed) == (400, 7)


def test_frames_that_lead_the_first_key_frame_are_not_shown() -> None:
    rows = packets(30)
    rows[0, 0], rows[1, 0] = 40, 0  # the second packet refers to what came before the recording
    found = timeline(rows, BASE, dts_only=False)
    assert (found.ticks[0], found.unkeyed) == (40, 1)


def test_without_any_key_frame_marked_all_frames_count() -> None:
    rows = packets(30)
    rows[:, 3] = 0
    assert len(ticks(rows)) == 30


def test_decoding_times_serve_where_there_are_no_others() -> None:
    rows = packets(30)
    rows[:, 0] = NO_TIME
    found = timeline(rows, BASE, dts_only=False)
    assert found.in_order and found.ticks.tolist() == [40 * k for k in range(30)]


def test_a_second_field_without_a_time_is_no_frame_of_its_own() -> None:
    rows = packets(30, gap=20)
    rows[1::2, 0] = NO_TIME
    found = timeline(rows, BASE, dts_only=False)
    assert not found.in_order and found.ticks.tolist() == [40 * k for k in range(15)]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=4))
def test_parts_are_joined_whatever_their_own_times(starts: list[int]) -> None:
    parts = [packets(20, start) for start in starts]
    found = timeline(np.concatenate(parts), BASE, dts_only=False)
    restarts = sum(not -1000 <= b - (a + 19 * GAP) <= 3_600_000 for a, b in pairwise(starts))
    assert found.restarts == restarts and found.in_order == (restarts > 0)
    assert len(found.ticks) <= 20 * len(starts) and (np.diff(found.ticks) > 0).all()
    if restarts == len(starts) - 1:
        assert (np.diff(found.ticks) == GAP).all() and len(found.ticks) == 20 * len(starts)


@given(st.integers(1, 28), st.integers(2000, 10**12), st.sampled_from([-1, 1]))
def test_one_flipped_time_is_left_out(index: int, error: int, sign: int) -> None:
    rows = packets(30)
    rows[index, :2] += sign * error
    found = timeline(rows, BASE, dts_only=False)
    assert found.ticks.tolist() == [40 * k for k in range(30) if k != index]
    assert found.restarts == 0


@given(st.lists(st.integers(1, 800_000), min_size=8, max_size=40), st.integers(1, 4))
def test_reordered_stills_of_minutes_are_no_damage(lengths: list[int], depth: int) -> None:
    times = np.cumsum([0, *lengths])
    rows = packets(len(times))
    rows[:, 1] = times
    rows[:, 0] = np.append(times, times[-1] + 600_000 * np.arange(1, depth + 1))[depth:]  # decoded so many frames early
    assert ticks(rows) == rows[:, 0].tolist()


def test_a_flipped_presentation_time_is_left_out() -> None:
    rows = packets(60)
    rows[30, 0] += 2**20
    assert ticks(rows) == [40 * k for k in range(60) if k != 30]


def test_no_packets_make_an_empty_timeline() -> None:
    assert ticks(packets(0)) == []


def video(times: list[int]) -> VideoInfo:
    """A video with those presentation times, in milliseconds."""
    found = np.unique(np.array(times, np.int64))
    duration = (int(found[-1]) + 7 - int(found[0])) * BASE
    keys = np.ones(len(found), np.bool_)
    return VideoInfo(64, 64, duration, Fraction(0), len(found), "h264", 0, (), None, BASE, found, keys)


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=60), st.integers(1, 200))
def test_each_sample_expects_the_last_frame_at_or_before_its_time(times: list[int], count: int) -> None:
    info = video(times)
    plan = schedule(info, Sampling(count, info.duration))
    for index in range(count):
        due = info.ticks[0] * BASE + index * info.duration / count
        expected = max(rank for rank, tick in enumerate(info.ticks.tolist()) if tick * BASE <= due)
        assert plan.expected[index] == expected


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=300), st.integers(1, 400))
def test_the_selection_passes_every_frame_that_a_sample_expects(times: list[int], count: int) -> None:
    info = video(times)
    plan = schedule(info, Sampling(count, info.duration))
    assert passed(info, plan) >= set(info.ticks[plan.expected].tolist())


def test_the_selection_passes_few_frames_that_no_sample_expects() -> None:
    steady = video([40 * k for k in range(15_000)])  # 10 minutes, 25 frames a second
    assert len(passed(steady, schedule(steady, Sampling(1024, steady.duration)))) <= 2 * 1024


def test_a_still_does_not_make_the_selection_pass_everything_else() -> None:
    screen = video([40 * k + (60_000 if k >= 5000 else 0) for k in range(10_000)])
    assert len(passed(screen, schedule(screen, Sampling(500, screen.duration)))) <= 2 * 500 + 64


def passed(info: VideoInfo, plan: Schedule) -> set[int]:
    """The ticks of the frames that ffmpeg lets through."""
    expression = selection(info, plan)
    assert expression is not None and len(expression) < 2000  # whatever the length of the video
    code = compile(expression, "select", "eval")
    return {tick for tick in info.ticks.tolist() if evaluated(code, tick)}


def evaluated(code: CodeType, pts: int) -> bool:
    """ffmpeg's expression, in Python."""
    names = {"pts": pts, "ceil": ceil, "lte": lambda a, b: a <= b, "eq": lambda a, b: a == b}
    return bool(eval(code, {"__builtins__": {}}, names))
