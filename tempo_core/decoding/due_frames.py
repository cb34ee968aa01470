"""Which frame each sample is due to show, and the expression that makes ffmpeg hand over those frames and few others.

A sample shows the last frame that is presented at or before its time. Everything is counted in ticks, the units of the
file's time base, with exact integers. Take ``info``, a video of ten frames, one each 40 ms, counted in milliseconds,
and three samples of its 0.4 s. They are due at 0, 133 and 266 ms (times are rounded down to a tick):

    frame   0    1    2    3    4    5    6    7    8    9
    tick    0   40   80  120  160  200  240  280  320  360
    sample  0             1              2

    >>> due = due_frames(info, Sampling(3, info.duration))
    >>> due.sample_ticks.tolist(), due.ranks.tolist()
    ([0, 133, 266], [0, 3, 6])

The frames are 0, 13 and 26 ms old when their samples come. ffmpeg's filter passes a frame where the sum of some
conditions on its time ``pts`` is not 0:

    >>> print(select_expression(info, due).replace("+", "\\n+"))
    lte(ceil((pts-0)/133.33333333333334-0.000001)*133.33333333333334-(pts-0),1.0)
    +eq(pts,0)
    +eq(pts,80)
    +eq(pts,120)
    +eq(pts,200)
    +eq(pts,240)

The first condition passes a frame after which a sample is due within a window of 1 tick (for rounding) plus the age of
the oldest frame at its sample, here 0, because the oldest frames of all (up to 32) are listed by their ticks and do not
count. Each is listed together with the frame before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tempo_core.decoding.video import TickArray, VideoInfo
from tempo_core.sampling import Sampling

_LISTED_OLDEST = 32  # frames whose ticks are listed rather than let through by the window: long stills
_MOST_LISTED = 2048  # an argument holds 128 KiB, and each takes 30 to 50 bytes
_LISTED_TOGETHER = 4


@dataclass(frozen=True, eq=False)
class DueFrames:
    """``sample_ticks``: int64 [samples], the last tick at or before each sample's time. ``ranks``: int64 [samples],
    the rank in ``info.ticks`` of the frame that is shown then."""

    sample_ticks: TickArray
    ranks: TickArray


def due_frames(info: VideoInfo, sampling: Sampling) -> DueFrames:
    first = int(info.ticks[0])  # a Python integer: no boundary is missed by rounding
    times = (sampling.time_s(index) for index in range(sampling.count))
    sample_ticks = np.array([first + int(time_s / info.time_base) for time_s in times], np.int64)
    return DueFrames(sample_ticks, np.searchsorted(info.ticks, sample_ticks, side="right") - 1)


def select_expression(info: VideoInfo, due: DueFrames) -> str:
    """For ffmpeg's select filter, where samples are evenly spread: passes every due frame and few others.

    Passing a frame too many costs 6 ms at 1080p, which is as much as decoding it, or more. That is why long stills are
    listed: one of a minute would make the window let everything through.
    """
    listed, oldest_age = _oldest(due, due.sample_ticks - info.ticks[due.ranks])
    window = float(oldest_age + info.slack)
    step = float(Fraction(info.duration / info.time_base) / len(due.sample_ticks))
    age = f"(pts-{int(info.ticks[0])})"
    expression = f"lte(ceil({age}/{step!r}-0.000001)*{step!r}-{age},{window!r})"
    return "+".join([expression, *(f"eq(pts,{tick})" for tick in info.ticks[listed].tolist())])


def select_ticks(info: VideoInfo, ticks: TickArray) -> str | None:
    """For ffmpeg's select filter: passes the frames of ``ticks`` (ascending) and hardly any other. None where they are
    too many to list, so that all frames must pass."""
    return _any_of(ticks.tolist(), info.slack) if len(ticks) <= _MOST_LISTED else None


def _any_of(ticks: list[int], slack: int) -> str:
    """Halved over and over, so that a frame is compared with few of a thousand."""
    if len(ticks) <= _LISTED_TOGETHER:
        return "+".join(f"lte(abs(pts-({tick})),{slack})" for tick in ticks)
    middle = len(ticks) // 2
    limit = (ticks[middle - 1] + ticks[middle]) / 2
    return f"if(lt(pts,{limit!r}),{_any_of(ticks[:middle], slack)},{_any_of(ticks[middle:], slack)})"


def _oldest(due: DueFrames, sample_ages: TickArray) -> tuple[list[int], int]:
    """The ranks of the frames that are oldest at one of their samples, with the frames before them; and the highest
    age of all other frames. ``sample_ages``: int64 [samples], ticks from a sample's frame to the sample."""
    ranks, samples = np.unique(due.ranks, return_inverse=True)
    ages = np.zeros(len(ranks), np.int64)
    np.maximum.at(ages, samples, sample_ages)
    order = np.argsort(-ages, kind="stable")
    oldest = ranks[order[:_LISTED_OLDEST]]
    with_previous = np.union1d(oldest, np.maximum(oldest - 1, 0))
    return with_previous.tolist(), int(ages[order[_LISTED_OLDEST:]].max(initial=0))
