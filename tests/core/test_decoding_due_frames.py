"""Which frames are due, and that the expression for ffmpeg passes them and few others."""

from __future__ import annotations

import doctest
from fractions import Fraction
from math import ceil
from types import CodeType

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tempo_core.decoding import due_frames as due_frames_module
from tempo_core.decoding.due_frames import DueFrames, due_frames, select_expression
from tempo_core.decoding.video import VideoInfo
from tempo_core.sampling import Sampling

BASE = Fraction(1, 1000)


def video(times: list[int], last_length: int = 7) -> VideoInfo:
    """A video with those presentation times, in milliseconds."""
    ticks = np.unique(np.array(times, np.int64))
    duration = (int(ticks[-1]) + last_length - int(ticks[0])) * BASE
    keys = np.ones(len(ticks), np.bool_)
    return VideoInfo(64, 64, duration, Fraction(0), len(ticks), "h264", 0, (), BASE, ticks, keys)


def test_the_worked_example_is_true() -> None:
    ten_frames = video(list(range(0, 400, 40)), last_length=40)
    failed, attempted = doctest.testmod(due_frames_module, extraglobs={"info": ten_frames})
    assert (failed, attempted) == (0, 3)


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=60), st.integers(1, 200))
def test_the_last_frame_at_or_before_a_samples_time_is_due(times: list[int], count: int) -> None:
    info = video(times)
    due = due_frames(info, Sampling(count, info.duration))
    for index in range(count):
        time = info.ticks[0] * BASE + index * info.duration / count
        assert due.ranks[index] == max(rank for rank, tick in enumerate(info.ticks.tolist()) if tick * BASE <= time)


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=300), st.integers(1, 400))
def test_every_due_frame_passes(times: list[int], count: int) -> None:
    info = video(times)
    due = due_frames(info, Sampling(count, info.duration))
    assert passed(info, due) >= set(info.ticks[due.ranks].tolist())


def test_few_frames_pass_that_are_not_due() -> None:
    steady = video([40 * k for k in range(15_000)])  # 10 minutes, 25 frames a second
    assert len(passed(steady, due_frames(steady, Sampling(1024, steady.duration)))) <= 2 * 1024


def test_a_long_still_does_not_let_everything_else_pass() -> None:
    screen = video([40 * k + (60_000 if k >= 5000 else 0) for k in range(10_000)])
    assert len(passed(screen, due_frames(screen, Sampling(500, screen.duration)))) <= 2 * 500 + 64


def passed(info: VideoInfo, due: DueFrames) -> set[int]:
    """The ticks of the frames that ffmpeg's filter passes."""
    expression = select_expression(info, due)
    assert len(expression) < 2000  # whatever the length of the video
    code = compile(expression, "select", "eval")
    return {tick for tick in info.ticks.tolist() if evaluated(code, tick)}


def evaluated(code: CodeType, pts: int) -> bool:
    """ffmpeg's expression, in Python."""
    names = {"pts": pts, "ceil": ceil, "lte": lambda a, b: a <= b, "eq": lambda a, b: a == b}
    return bool(eval(code, {"__builtins__": {}}, names))
