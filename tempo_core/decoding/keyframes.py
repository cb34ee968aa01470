"""Which frames are taken where key frames are sampled. Pure arithmetic on ticks; no file is opened here.

Key frames are thinned to the spec's rate: each one taken is the first that is far enough from the one before. Where the
next is further away than the longest gap that the spec allows, the frames shown at even times between are taken too,
which costs decoding from the key frame before. The spec's most frames win over both: then all distances grow together
until they are kept.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import numpy.typing as npt

from tempo_core.spec import IndexSpec

Ticks = npt.NDArray[np.int64]


def key_ranks(
    ticks: Ticks, keys: npt.NDArray[np.bool_], length: Fraction, rate: Fraction, spec: IndexSpec
) -> list[int]:
    """The ranks in ``ticks`` (int64 [n], ascending; ``keys`` bool [n]) of the frames that ``spec`` takes, ascending.

    ``length``: the video's duration in ticks, ``rate``: ticks per second. The first frame is always taken. A frame
    is taken once, so a video of few frames may have fewer than ``spec.min_frames``.
    """
    candidates = np.flatnonzero(keys)
    end = int(ticks[0]) + length
    longest = min(Fraction(spec.max_gap_s).limit_denominator(10**6) * rate, length / spec.min_frames)
    least = rate / Fraction(spec.frames_per_second).limit_denominator(10**6)
    taken = _filled(ticks, _thinned(ticks, candidates, least), end, longest)
    if spec.max_frames is None or len(taken) <= spec.max_frames:
        return taken
    return _capped(ticks, candidates, end, (least, longest), spec.max_frames)


def _thinned(ticks: Ticks, candidates: Ticks, least: Fraction) -> list[int]:
    """The first frame, then each key frame at least ``least`` ticks after the one taken before."""
    taken, times = [0], ticks[candidates]
    while True:
        following = int(np.searchsorted(times, ceil(int(ticks[taken[-1]]) + least)))
        if following == len(candidates):
            return taken
        taken.append(int(candidates[following]))


def _filled(ticks: Ticks, taken: list[int], end: Fraction, longest: Fraction) -> list[int]:
    """``taken``, and where one is over ``longest`` ticks from the next or the end, the frames shown evenly between."""
    filled = []
    stops = [*(Fraction(int(tick)) for tick in ticks[taken[1:]]), end]
    for rank, stop in zip(taken, stops, strict=True):
        begin = int(ticks[rank])
        parts = ceil((stop - begin) / longest)
        due = [begin + int(part * (stop - begin) / parts) for part in range(1, parts)]
        shown = np.searchsorted(ticks, np.array(due, np.int64), side="right") - 1
        filled += [rank, *np.unique(shown[shown > rank]).tolist()]
    return filled


def _capped(
    ticks: Ticks, candidates: Ticks, end: Fraction, distances: tuple[Fraction, Fraction], most: int
) -> list[int]:
    """The ranks that remain when the distances grow until at most ``most`` do, which is sought by halving."""
    least, longest = distances
    low, high, taken = least, end - int(ticks[0]) + 1, [0]
    while high - low >= 1 and len(taken) < most:
        middle = (low + high) / 2
        ranks = _filled(ticks, _thinned(ticks, candidates, middle), end, max(longest, 2 * middle))
        if len(ranks) > most:
            low = middle
        else:
            high, taken = middle, ranks
    return taken
