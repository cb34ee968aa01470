"""Which frame each sample shows, in exact integer arithmetic on presentation ticks, and what ffmpeg must let pass."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tempo_core.decoding.video import TickArray, VideoInfo
from tempo_core.sampling import Sampling

_NAMED_FRAMES = 32  # frames let through by name rather than by the window: long stills in a variable frame rate
_MOST_NAMED = 2048  # an argument holds 128 KiB, and each takes 30 to 50 bytes
_NAMED_TOGETHER = 4


@dataclass(frozen=True, eq=False)
class Schedule:
    """``due``: int64 [n], the last tick at or before each sample's time; ``expected``: [n], the rank in
    ``info.ticks`` of the frame that is then shown."""

    due: TickArray
    expected: TickArray


def schedule(info: VideoInfo, sampling: Sampling) -> Schedule:
    """When each sample is due. Python integers until the end, so that no boundary is missed by rounding."""
    first = int(info.ticks[0])
    times = (sampling.time_s(index) for index in range(sampling.count))
    due = np.array([first + int(time_s / info.time_base) for time_s in times], np.int64)
    return Schedule(due, np.searchsorted(info.ticks, due, side="right") - 1)


def selection(info: VideoInfo, plan: Schedule) -> str | None:
    """An expression for ffmpeg's select filter that passes every scheduled frame and few others; None: pass all.

    A frame passes if a sample is due within a window after it. The window is as long as the oldest frame that is
    shown at a sample. A few frames that are shown much longer than the rest are named (and the ones before them), or
    one still of a minute would pass all others. Each frame more costs 6 ms at 1080p, as much as decoding it or more.
    """
    unit = _uniform_gap(info.ticks) if info.in_order else 1
    if unit is None:
        return None
    named, rest = _named(plan, plan.due - info.ticks[plan.expected])
    origin = 0 if info.in_order else int(info.ticks[0])
    field = typical_gap(info.ticks) if info.interlaced else 0  # the time of a picture may be its other field's
    window = (rest + field) / unit
    step = float(Fraction(info.duration / info.time_base) / len(plan.due) / unit)
    age = f"(pts-{origin})"
    expression = f"lte(ceil({age}/{step!r}-0.000001)*{step!r}-{age},{window + 1!r})"
    chosen = [(int(info.ticks[rank]) - int(info.ticks[0])) // unit + origin for rank in named]
    return "+".join([expression, *(f"eq(pts,{tick})" for tick in chosen)])


def named(info: VideoInfo, ticks: TickArray) -> str | None:
    """An expression that passes the frames of these ``ticks`` (ascending) and hardly any other; None: pass all."""
    if info.in_order:
        ticks = np.searchsorted(info.ticks, ticks)
    if len(ticks) > _MOST_NAMED:
        return None
    slack = 1 + (typical_gap(info.ticks) if info.interlaced else 0)  # as in selection; 1: two versions may round
    return _among(ticks.tolist(), 0 if info.in_order else slack)


def _among(ticks: list[int], slack: int) -> str:
    """Halved over and over, so that a frame is compared with few of a thousand."""
    if len(ticks) <= _NAMED_TOGETHER:
        return "+".join(f"lte(abs(pts-({tick})),{slack})" for tick in ticks)
    middle = len(ticks) // 2
    limit = (ticks[middle - 1] + ticks[middle]) / 2
    return f"if(lt(pts,{limit!r}),{_among(ticks[:middle], slack)},{_among(ticks[middle:], slack)})"


def _named(plan: Schedule, ages: TickArray) -> tuple[list[int], int]:
    """The ranks of the frames that are shown longest and the ones before them; the oldest age of all others."""
    ranks, samples = np.unique(plan.expected, return_inverse=True)
    oldest = np.zeros(len(ranks), np.int64)
    np.maximum.at(oldest, samples, ages)
    order = np.argsort(-oldest, kind="stable")
    named = ranks[order[:_NAMED_FRAMES]]
    return np.union1d(named, np.maximum(named - 1, 0)).tolist(), int(oldest[order[_NAMED_FRAMES:]].max(initial=0))


def _uniform_gap(ticks: TickArray) -> int | None:
    """The one distance between all frames, or None: then an order tells no time without the whole list."""
    gaps = np.diff(ticks)
    if not len(gaps):
        return 1
    return int(gaps[0]) if bool((gaps == gaps[0]).all()) else None


def typical_gap(ticks: TickArray) -> int:
    """The median distance between frames, in ticks; 0 for one frame."""
    return int(np.median(np.diff(ticks))) if len(ticks) > 1 else 0
