"""When each frame is shown, from what the packets say. Pure arithmetic on arrays; containers lie and streams break."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tempo_core.decoding.probe_worker import HIDDEN, KEY, NO_TIME
from tempo_core.decoding.video import MarkArray, TickArray

_BACKWARD_S, _FORWARD_S = 1, 3600  # a timeline that jumps so far has been restarted, not paused
_HELD_FRAMES = 17  # the most that a decoder holds back to reorder them (H.264 and HEVC: 16)
_REORDERING_S = 60  # a presentation time so far from the decoding of as many frames is damage


@dataclass(frozen=True, eq=False)
class Timeline:
    """``ticks``: int64 [frames], ascending. ``keys``: bool [frames], which of them the file marks as key frames.
    ``last_length``: ticks the last frame is shown, 0 where unsaid.

    ``in_order``: decoded frames are matched to ticks by their order, their own times being absent or restarted.
    ``unkeyed``: frames before the first key frame, left out. ``restarts``: jumps that were joined.
    """

    ticks: TickArray
    keys: MarkArray
    last_length: int
    in_order: bool = False
    unkeyed: int = 0
    restarts: int = 0


def timeline(packets: npt.NDArray[np.int64], time_base: Fraction, dts_only: bool) -> Timeline:
    """The timeline of int64 [packets, 4] rows in decoding order (``PACKET_FIELDS``; NO_TIME where there is none).

    ``dts_only``: the container knows decoding times only. Packets without a presentation time among others that
    have one are second fields of a picture.
    """
    packets = packets[_plausible(packets, time_base)]
    if not len(packets):
        return Timeline(np.array([], np.int64), np.array([], np.bool_), 0)
    offsets, restarts = _joined(packets, time_base)
    pts, dts, length, flags = packets.T
    in_order = dts_only or 2 * int((pts != NO_TIME).sum()) < len(packets)
    times = dts if in_order else pts
    ticks, shown = times + offsets, (times != NO_TIME) & ~_has(flags, HIDDEN)
    decodable = np.ones(len(ticks), np.bool_) if in_order else _decodable(ticks, flags)
    unkeyed, shown = int((shown & ~decodable).sum()), shown & decodable
    ticks, length, keys = ticks[shown], length[shown], _has(flags[shown], KEY)
    last_length = max(0, int(length[int(np.argmax(ticks))])) if len(ticks) else 0
    found = np.unique(ticks)
    return Timeline(found, np.isin(found, ticks[keys]), last_length, in_order or restarts > 0, unkeyed, restarts)


def _decodable(ticks: TickArray, flags: TickArray) -> MarkArray:
    """From the first key frame, in both orders: nothing before it, and nothing after that is shown before it."""
    if not _has(flags, KEY).any():  # then the marks are worth nothing
        return np.ones(len(ticks), np.bool_)
    first = int(np.argmax(_has(flags, KEY)))
    decodable = np.asarray(ticks >= ticks[first], np.bool_)
    decodable[:first] = False
    return decodable


def _has(flags: TickArray, flag: int) -> MarkArray:
    return np.asarray(flags & flag, np.bool_)


def _plausible(packets: npt.NDArray[np.int64], time_base: Fraction) -> MarkArray:
    """False for a packet whose times stand alone, its neighbours going on without it: a few flipped bits."""
    pts, dts = packets[:, 0], _filled(packets[:, 1])
    near = _ticks(_BACKWARD_S, time_base)
    keep = np.ones(len(packets), np.bool_)
    if len(packets) > 2:
        before, here, after = dts[:-2], dts[1:-1], dts[2:]
        steady = (after >= before) & (after - before <= near)
        keep[1:-1] = ~(steady & ((here < before - near) | (here > after + near)))
    both = (packets[:, 1] != NO_TIME) & (pts != NO_TIME)
    keep &= ~(both & (np.abs(pts - dts) > _reordering(dts, time_base)))
    return keep


def _reordering(dts: npt.NDArray[np.int64], time_base: Fraction) -> npt.NDArray[np.int64]:
    """Ticks between a packet's two times that reordering explains: held back are frames, not seconds, and a slide
    lasts minutes. How long the last ones wait, no decoding time tells."""
    ranks, last = np.arange(len(dts)), len(dts) - 1
    least, most = _ticks(_REORDERING_S, time_base), _ticks(_FORWARD_S, time_base)
    held = dts[np.minimum(ranks + _HELD_FRAMES, last)] - dts[np.maximum(ranks - _HELD_FRAMES, 0)]
    return np.where(ranks + _HELD_FRAMES > last, most, np.clip(held, least, most))


def _joined(packets: npt.NDArray[np.int64], time_base: Fraction) -> tuple[npt.NDArray[np.int64], int]:
    """What to add to each packet's times so that a timeline that restarts runs on; and how often it restarts."""
    dts = _filled(packets[:, 1])
    steps = np.diff(dts)
    jumps = (steps < -_ticks(_BACKWARD_S, time_base)) | (steps > _ticks(_FORWARD_S, time_base))
    shifts = np.where(jumps, np.maximum(packets[:-1, 2], 0) - steps, 0)
    return np.concatenate([[0], np.cumsum(shifts)]), int(jumps.sum())


def _filled(dts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Decoding times, an unsaid one being the one before it (the first said one at the beginning)."""
    said = np.flatnonzero(dts != NO_TIME)
    if not len(said):
        return np.zeros_like(dts)
    latest = np.maximum(np.searchsorted(said, np.arange(len(dts)), side="right") - 1, 0)
    return dts[said[latest]]


def _ticks(seconds: int, time_base: Fraction) -> int:
    return max(1, int(seconds / time_base))
