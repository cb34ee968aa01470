"""Which frame each sample shows, in exact integer arithmetic on presentation ticks, and what ffmpeg must let pass."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tempo_core.decoding.video import TickArray, VideoInfo
from tempo_core.sampling import Sampling

_NAMED_FRAMES = 32  # frames let through by name rather than by the window: long stills in a variable frame rate


@dataclass(frozen=True, eq=False)
class Schedule:
    """``due``: int64 [n], the last tick at or before each sample's time; ``expected``: [n], the rank in
    ``info.ticks`` of the frame that is then shown."""

    due: TickArray
    expected: TickArray


def schedule(info: VideoInfo, sampling: Sampling) -> Schedule:
    """When each sample is due. Python integers until the end, so that no boundary is missed by rounding."""
    first = int(info.ticks[0])
    step = sampling.duration_s / sampling.count / info.time_base
    due = np.array([first + int(index * step) for index in range(sampling.count)], np.int64)
    return Schedule(due, np.searchsorted(info.ticks, due, side="right") - 1)


def selection(info: VideoInfo, plan: Schedule) -> str | None:
    """An expression for ffmpeg's select filter that passes every scheduled frame and few others; None: pass all.

    A frame passes if a sample is due within a window after it. The window is as long as the oldest frame that is
    shown at a sample, and one frame more, so that a frame that fails to decode has a neighbour to stand in. A few
    frames that are shown much longer than the rest are named (and the ones before them), or one still of a minute
    would pass all others.
    """
    unit = _uniform_gap(info.ticks) if info.in_order else 1
    if unit is None:
        return None
    shown = info.ticks[plan.expected]
    ages = plan.due - shown
    oldest = np.argsort(ages)[::-1][:_NAMED_FRAMES]
    rest = np.delete(ages, oldest)
    origin = 0 if info.in_order else int(info.ticks[0])
    window = (int(rest.max(initial=0)) + typical_gap(info.ticks)) / unit
    step = float(Fraction(info.duration / info.time_base) / len(plan.due) / unit)
    age = f"(pts-{origin})"
    expression = f"lte(ceil({age}/{step!r}-0.000001)*{step!r}-{age},{window + 1!r})"
    named = sorted({(tick - int(info.ticks[0])) // unit + origin for tick in _with_neighbours(info, plan, oldest)})
    return "+".join([expression, *(f"eq(pts,{tick})" for tick in named)])


def _with_neighbours(info: VideoInfo, plan: Schedule, samples: TickArray) -> list[int]:
    ranks = np.concatenate([plan.expected[samples], np.maximum(plan.expected[samples] - 1, 0)])
    return [int(tick) for tick in info.ticks[ranks]]


def _uniform_gap(ticks: TickArray) -> int | None:
    """The one distance between all frames, or None: then an order tells no time without the whole list."""
    gaps = np.diff(ticks)
    if not len(gaps):
        return 1
    return int(gaps[0]) if bool((gaps == gaps[0]).all()) else None


def typical_gap(ticks: TickArray) -> int:
    """The median distance between frames, in ticks; 0 for one frame."""
    return int(np.median(np.diff(ticks))) if len(ticks) > 1 else 0
