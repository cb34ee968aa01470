"""Filters that make ticks of the times that a decoder gives to frames, before the frames are selected, and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tempo_core.decoding.timeline import BACKWARD_S, FORWARD_S
from tempo_core.decoding.video import VideoInfo

_JUMP_SHARE = 0.5  # of a jump of decoding times; presentation times may jump less far, since frames are reordered


def in_ticks(stream: Any, info: VideoInfo) -> Any:
    """``stream`` with the times of ``info.ticks``; its time base must be that of ``info``."""
    if info.clock.first is not None:
        stream = stream.filter("setpts", f"PTS-STARTPTS+({info.clock.first})")
    if info.clock.shifts:
        stream = stream.filter("setpts", _joining(info))
    return stream


def selected(stream: Any, info: VideoInfo, select: str | None) -> Any:
    """The frames of ``stream`` that ``select`` passes, as ticks from ``origin`` on.

    A container refuses times that do not ascend, and moves all times where one is below zero. So frames that are not
    shown are left out here, and so is a frame that comes after a later one.
    """
    first, last = origin(info), int(info.ticks[-1]) + info.slack
    ascending = f"between(pts,{first},{last})*not(lte(pts,prev_selected_pts))"
    stream = stream.filter("select", ascending if select is None else f"{ascending}*({select})")
    return stream.filter("setpts", f"PTS-({first})")


def origin(info: VideoInfo) -> int:
    """The tick that ffmpeg's output counts from: none is shown earlier."""
    return int(info.ticks[0]) - info.slack


def _joining(info: VideoInfo) -> str:
    """A timeline that starts anew runs on: register 0 counts how often it did so."""
    backward, forward = BACKWARD_S * _JUMP_SHARE / info.time_base, (FORWARD_S - BACKWARD_S) / info.time_base
    step = "(PTS-PREV_INPTS)"  # not a number for the first frame, which compares as 0
    jumped = f"gt(lt({step},{-float(backward)!r})+gt({step},{float(forward)!r}),0)"
    count = f"st(0,min(ld(0)+{jumped},{len(info.clock.shifts)}))"
    return f"PTS+0*{count}+{_of_rank([0, *info.clock.shifts], 0)}"


def _of_rank(values: Sequence[int], begin: int) -> str:
    """The value whose rank, from ``begin`` on, is in register 0."""
    if len(values) == 1:
        return f"({values[0]})"
    half = len(values) // 2
    left, right = _of_rank(values[:half], begin), _of_rank(values[half:], begin + half)
    return f"if(lt(ld(0),{begin + half}),{left},{right})"
