"""When each frame is shown, from the times of packets, which may be absent, damaged or start anew. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tempo_core.decoding.probe_worker import HIDDEN, KEY, NO_TIME
from tempo_core.decoding.video import Clock, MarkArray, TickArray

BACKWARD_S, FORWARD_S = 1, 3600  # a timeline that jumps so far has been restarted, not paused
_REORDERED_FRAMES = 17  # more than a decoder ever holds back to reorder them (H.264 and HEVC: 16)
_REORDERING_S = 60  # a packet's two times may always lie this far apart


@dataclass(frozen=True, eq=False)
class Timeline:
    """``ticks``: int64 [frames], ascending. ``keys``: bool [frames], which of them the file marks as key frames.
    ``last_length``: for how many ticks the last frame is shown, 0 where the file does not tell.

    ``unkeyed``: how many frames before the first that can be decoded were left out. ``clock``: how decoded frames are
    matched to ticks; its ``shifts`` tell how often the times started anew, and were joined.
    """

    ticks: TickArray
    keys: MarkArray
    last_length: int
    unkeyed: int = 0
    clock: Clock = field(default_factory=Clock)


def timeline(
    packets: npt.NDArray[np.int64], time_base: Fraction, dts_only: bool, first_decoded: int | None = None
) -> Timeline:
    """``packets``: int64 [packets, PACKET_FIELDS] in decoding order, NO_TIME where a time is absent.

    ``dts_only``: the presentation times of the container are guesses. Where most packets have a presentation time,
    those without one are second fields of a picture, and no frames of their own. ``first_decoded``: the packet of the
    first frame that a decoder gave; None where that is not known.
    """
    packets = _timed(packets)
    pts, dts = packets[:, 0], packets[:, 1]
    by_dts = dts_only or 2 * int((pts != NO_TIME).sum()) < len(packets)
    times = dts if by_dts else pts
    first = int(times[first_decoded]) if first_decoded is not None and times[first_decoded] != NO_TIME else None
    keep = _plausible(packets, time_base)
    if not keep.all():
        packets, times = packets[keep], times[keep]
    if not len(packets):
        return Timeline(np.array([], np.int64), np.array([], np.bool_), 0)
    offsets, shifts = _joined(packets, time_base)
    length, flags = packets[:, 2], packets[:, 3]
    ticks, shown = times + offsets, (times != NO_TIME) & ~_has(flags, HIDDEN)
    decodable = np.ones(len(ticks), np.bool_) if by_dts else _decodable(ticks, flags, first)
    unkeyed, shown = int((shown & ~decodable).sum()), shown & decodable
    ticks, length, keys = ticks[shown], length[shown], _has(flags[shown], KEY)
    last_length = max(0, int(length[int(np.argmax(ticks))])) if len(ticks) else 0
    frame_ticks = _distinct(ticks)
    key_marks = np.zeros(len(frame_ticks), np.bool_)
    key_marks[np.searchsorted(frame_ticks, ticks[keys])] = True
    return Timeline(frame_ticks, key_marks, last_length, unkeyed, _clock(packets, by_dts, first, shifts))


def _distinct(ticks: TickArray) -> TickArray:
    """Ascending, each once, as ``np.unique`` gives them, which takes half a minute for a day at 120 a second."""
    ordered = np.sort(ticks)
    is_new = np.ones(len(ordered), np.bool_)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]


def _timed(packets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """With decoding times from the packets' lengths where none has any time: a raw stream."""
    if not len(packets) or (packets[:, :2] != NO_TIME).any():
        return packets
    timed = packets.copy()
    timed[:, 1] = np.cumsum(packets[:, 2]) - packets[:, 2]
    return timed


def _clock(packets: npt.NDArray[np.int64], by_dts: bool, first: int | None, shifts: tuple[int, ...]) -> Clock:
    """Presentation times that merely repeat the decoding times say nothing: then FFmpeg may guess as well as it can."""
    pts, dts = packets[:, 0], packets[:, 1]
    if by_dts:
        begin = int(_filled(dts)[0]) if first is None else first
        return Clock(first=begin, shifts=shifts)
    return Clock(complete=bool((pts != NO_TIME).all() and (pts != dts).any()), shifts=shifts)


def _decodable(ticks: TickArray, flags: TickArray, first_tick: int | None) -> MarkArray:
    """False for packets that are decoded or shown before the first key frame: what they refer to is missing. But for
    those from ``first_tick`` on, the time of the first frame that a decoder gave."""
    if not _has(flags, KEY).any():  # a file that marks none: anything may be decodable
        return np.ones(len(ticks), np.bool_)
    first = int(np.argmax(_has(flags, KEY)))
    decodable = np.asarray(ticks >= ticks[first], np.bool_)
    decodable[:first] = False
    if first_tick is not None and first_tick < ticks[first]:
        decodable |= ticks >= first_tick
    return decodable


def _has(flags: TickArray, flag: int) -> MarkArray:
    return np.asarray(flags & flag, np.bool_)


def _plausible(packets: npt.NDArray[np.int64], time_base: Fraction) -> MarkArray:
    """False for a packet with damaged times (a few flipped bits): its decoding time is off while its neighbours' go on
    steadily, or its two times are further apart than reordering explains."""
    pts, dts = packets[:, 0], _filled(packets[:, 1])
    near = _ticks(BACKWARD_S, time_base)
    keep = np.ones(len(packets), np.bool_)
    if len(packets) > 2:
        before, here, after = dts[:-2], dts[1:-1], dts[2:]
        steady = (after >= before) & (after - before <= near)
        keep[1:-1] = ~(steady & ((here < before - near) | (here > after + near)))
    both = (packets[:, 1] != NO_TIME) & (pts != NO_TIME)
    keep &= ~(both & (np.abs(pts - dts) > _reordering(dts, time_base)))
    return keep


def _reordering(dts: npt.NDArray[np.int64], time_base: Fraction) -> npt.NDArray[np.int64]:
    """The most ticks between a packet's two times that reordering explains: int64 [packets].

    A decoder reorders a number of frames, which may last any time: a slide is shown for minutes. So it is the time that
    the packet's neighbours take, at least a minute and at most an hour. It is an hour for the last packets, which have
    no neighbours behind them.
    """
    least, most = _ticks(_REORDERING_S, time_base), _ticks(FORWARD_S, time_base)
    padded = np.concatenate([dts[:1].repeat(_REORDERED_FRAMES), dts, dts[-1:].repeat(_REORDERED_FRAMES)])
    reordering: TickArray = np.clip(padded[2 * _REORDERED_FRAMES :] - padded[: -2 * _REORDERED_FRAMES], least, most)
    reordering[-_REORDERED_FRAMES:] = most
    return reordering


def _joined(packets: npt.NDArray[np.int64], time_base: Fraction) -> tuple[npt.NDArray[np.int64], tuple[int, ...]]:
    """The ticks to add to each packet's times so that a timeline that starts anew runs on; and those to add from each
    time on that it does so."""
    dts = _filled(packets[:, 1])
    steps = np.diff(dts)
    jumps = (steps < -_ticks(BACKWARD_S, time_base)) | (steps > _ticks(FORWARD_S, time_base))
    shifts = np.where(jumps, np.maximum(packets[:-1, 2], 0) - steps, 0)
    offsets = np.concatenate([[0], np.cumsum(shifts)])
    return offsets, tuple(offsets[1:][jumps].tolist())


def _filled(dts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Decoding times, where an absent one is replaced by the one before it (by the first one at the beginning)."""
    present = np.flatnonzero(dts != NO_TIME)
    if not len(present):
        return np.zeros_like(dts)
    if len(present) == len(dts):
        return dts
    latest = np.maximum(np.searchsorted(present, np.arange(len(dts)), side="right") - 1, 0)
    return dts[present[latest]]


def _ticks(seconds: int, time_base: Fraction) -> int:
    return max(1, int(seconds / time_base))
