"""Probing: one packet scan without decoding, in a process of its own (``probe_worker.py``), made into a VideoInfo."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tempo_core.decoding.child import Child, Deadline
from tempo_core.decoding.display import color_tags, displayed_size, orientation
from tempo_core.decoding.video import TickArray, VideoInfo
from tempo_core.errors import SourceError, VideoError

# Containers that hold their own pictures. Playlists (hls, dash, concat), image patterns and devices are left out:
# they make FFmpeg read other files or the network.
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,ivf,dv,rm,wtv,gif,h264,hevc,m4v,mpegvideo,yuv4mpegpipe"

_WORKER = Path(__file__).with_name("probe_worker.py")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_CLAIM_SLACK_S = 0.5
_CLAIM_SLACK_SHARE = 0.01
_DEFAULT_RATE = Fraction(25)
_ESTIMATING_FORMATS = ("mpegts", "mpeg", "ivf", "h264", "hevc", "m4v", "mpegvideo")  # no duration in the header


def probe(path: str | os.PathLike[str], *, deadline_s: float = 120.0) -> VideoInfo:
    """Reads every packet of ``path`` (decodes only the first frame) and tells its true times and size.

    SourceError where the file cannot be opened; VideoError with the reason where it is no usable video;
    DecodeTimeout past ``deadline_s``.
    """
    name = os.path.abspath(os.fspath(path))
    _check_file(name)
    command = [sys.executable, "-P", str(_WORKER), FORMATS, name]
    with Child(command, Deadline(deadline_s, deadline_s), "reading the file's packets") as child:
        output = bytearray()
        while chunk := child.read():
            output += chunk
        status = child.finish()
        messages = child.messages()
    header, _, ticks = bytes(output).partition(b"\n")
    if status or not header:
        raise VideoError(_crash_reason(status, messages))
    facts = json.loads(header)
    if "error" in facts:
        raise VideoError(_open_reason(name, facts, messages))
    return video_info(facts, np.frombuffer(ticks, np.int64))


def _check_file(name: str) -> None:
    try:
        found = Path(name).stat()
        if not stat.S_ISREG(found.st_mode):
            raise VideoError("not a regular file (a folder, pipe or device cannot be indexed)")
        Path(name).open("rb").close()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise SourceError(f"cannot open {name}: {getattr(error, 'strerror', None) or error}") from error
    if not found.st_size:
        raise VideoError("the file is empty (0 bytes)")


def _crash_reason(status: int, messages: list[str]) -> str:
    if status < 0:
        return f"reading the file's packets crashed ({signal.Signals(-status).name}): the file is damaged"
    return f"reading the file's packets failed: {messages[-1] if messages else f'exit status {status}'}"


def video_info(facts: dict[str, Any], ticks: TickArray) -> VideoInfo:
    """The worker's facts, judged: the video's true times, with warnings about what is missing; or VideoError."""
    if not len(ticks):
        raise VideoError(f"the {facts['codec']} video stream holds no picture that can be shown")
    time_base = Fraction(facts["time_base"])
    length = _last_length(facts, ticks, time_base)
    width, height = displayed_size(facts)
    first = int(ticks[0]) * time_base
    earliest = Fraction(facts["earliest"]) if facts["earliest"] else first
    duration = (int(ticks[-1]) + length - int(ticks[0])) * time_base
    return VideoInfo(
        width=width,
        height=height,
        duration=duration,
        start=max(Fraction(0), first - max(Fraction(0), earliest)),
        frame_count=len(ticks),
        codec=str(facts["codec"]),
        stream_index=int(facts["stream_index"]),
        warnings=tuple(_warnings(facts, float(first + duration), float(length * time_base))),
        claimed_duration_s=_claim(facts),
        time_base=time_base,
        ticks=ticks,
        in_order=bool(facts["in_order"]),
        interlaced=bool(facts["interlaced"]),
        orientation=orientation(facts["matrix"]),
        color=color_tags(facts["color"], int(facts["width"]), int(facts["height"])),
    )


def _open_reason(name: str, facts: dict[str, Any], messages: list[str]) -> str:
    text = "\n".join(messages)
    if facts["error"] == "no video stream":
        return f"no video stream that can be decoded ({_what_else(facts)})"
    if refused := re.search(r"\[(\S+) @ \S+\] Format not on whitelist", text):
        return f"a file of the kind {refused[1]!r} is not read: it is no video, or names other files or the network"
    if "moov atom not found" in text and _begins_as_mp4(name):
        return "the file has no index (moov atom not found): it was cut short or never finished"
    return f"no video that can be read: {facts['error']}"


def _what_else(facts: dict[str, Any]) -> str:
    if facts["unknown"] or not facts["pictures"] + facts["sounds"]:
        return "its codec is unknown"
    return "only a cover picture" if facts["pictures"] else "only sound"


def _begins_as_mp4(name: str) -> bool:
    with Path(name).open("rb") as file:
        return file.read(8)[4:] in _MP4_BOXES  # FFmpeg takes any file so named for one


def _last_length(facts: dict[str, Any], ticks: TickArray, time_base: Fraction) -> int:
    """Ticks for which the last frame is shown: as the file says, else as long as the others."""
    if facts["last_length"] > 0:
        return int(facts["last_length"])
    if len(ticks) > 1:
        return max(1, round(float(np.median(np.diff(ticks)))))
    rate = Fraction(facts["rate"]) if facts["rate"] else _DEFAULT_RATE
    return max(1, round(1 / (rate * time_base)))


def _claim(facts: dict[str, Any]) -> float | None:
    """Seconds that the header says the video lasts; None where the container has no such field."""
    if facts["format"] in _ESTIMATING_FORMATS:
        return None
    claim = facts["stream_claim_s"] or facts["claim_s"]
    return None if claim is None else float(claim)


def _warnings(facts: dict[str, Any], pictures_end_s: float, length_s: float) -> list[str]:
    found = []
    if facts["unkeyed"]:
        found.append(f"the first {facts['unkeyed']} frames need an earlier part that is missing; they are left out")
    if facts["restarts"]:
        found.append(f"the file's own times jump {facts['restarts']} times; they were joined into one timeline")
    if facts["cut"]:
        found.append(f"reading stopped at {pictures_end_s:.1f} s: {facts['cut']}")
    claim, end_s = _claim(facts), pictures_end_s
    if claim is None or facts["restarts"]:
        return found
    if facts["stream_claim_s"] is None:  # the header's claim is about the longest of picture and sound
        end_s = max(end_s, facts["end_s"])
    slack = max(_CLAIM_SLACK_S, claim * _CLAIM_SLACK_SHARE, 2 * length_s)
    if end_s < claim - slack:
        found.append(f"the file ends at {end_s:.1f} s of the {claim:.1f} s its header claims")
    elif pictures_end_s > claim + slack:
        found.append(f"the pictures run for {pictures_end_s:.1f} s, the header claims {claim:.1f} s")
    return found
