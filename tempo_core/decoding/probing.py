"""Probing: a packet scan in a process of its own (``probe_worker.py``), whose findings become a VideoInfo."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tempo_core.decoding.blame import refuse_circumstances
from tempo_core.decoding.child import Child, Deadline
from tempo_core.decoding.display import color_tags, cropping, displayed_size, orientation
from tempo_core.decoding.probe_worker import PACKET_FIELDS
from tempo_core.decoding.reasons import memory_reason, nothing_reason, open_reason, restarts_reason, too_many_reason
from tempo_core.decoding.scan_server import MOST_MEMORY, OVER_MEMORY
from tempo_core.decoding.scanning import start_scan
from tempo_core.decoding.timeline import Timeline, timeline
from tempo_core.decoding.video import ColorTags, VideoInfo
from tempo_core.errors import DecoderDied, SourceError, VideoError

# Containers that hold their own pictures and times, and raw streams of one codec, whose frames are evenly spaced. Left
# out are playlists (hls, dash, concat), image patterns and devices, which make FFmpeg read other files or the network.
RAW_FORMATS = ("h264", "hevc", "mpegvideo")
FORMATS = ",".join(("mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,ivf,dv,rm,wtv,gif,yuv4mpegpipe", *RAW_FORMATS))

_WORKER = Path(__file__).with_name("probe_worker.py")
_LEAST_DEADLINE_S, _SLOWEST_BYTES_S = 120.0, 20e6
_LACKS = re.compile(r"(MemoryError|OSError|\w*ImportError|ModuleNotFoundError)\b")  # of the scan's own Python
_CLAIM_SLACK_S = 0.5
_CLAIM_SLACK_SHARE = 0.01
_MISCOUNTED_FRAMES = 16  # muxers leave reordered frames of a variable rate at the end out of their claim
_LONGEST_STILL_S = 3600  # a longer claim for the last frame is damage
_DEFAULT_RATE = Fraction(25)
_DTS_ONLY_FORMATS = ("avi", *RAW_FORMATS)  # FFmpeg guesses their presentation times, wrongly where frames are reordered
_MOST_RESTARTS = 1000  # each is part of an argument of ffmpeg, which holds 128 KiB
_ESTIMATING_FORMATS = ("mpegts", "mpeg", "ivf", *RAW_FORMATS)  # no duration in the header


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Reads every packet of ``path`` (decodes hardly any) and finds out its true times and size.

    SourceError where the file cannot be opened or read; VideoError with the reason where it is not a usable video;
    DecoderDied where the scan was ended or the machine short of something; DecodeTimeout after two minutes, or more
    for files over 2.4 GB.
    """
    name = os.path.abspath(os.fspath(path))
    size = _checked_size(name)
    deadline_s = max(_LEAST_DEADLINE_S, size / _SLOWEST_BYTES_S)
    command = [str(_WORKER), FORMATS, name]
    with Child(command, Deadline(deadline_s, deadline_s), "the packet scan", start_scan) as child:
        output = bytearray()
        while chunk := child.read():
            output += chunk
        status = child.finish()
        end = output.find(b"\n") + 1
        header = bytes(output[:end])
        facts = json.loads(header) if header and not status else {}
        if facts and not facts.get("error") and not facts["cut"]:
            child.spare()
    if status == OVER_MEMORY:
        raise VideoError(memory_reason(MOST_MEMORY))
    if status and _LACKS.match(child.complaint()):
        raise DecoderDied(f"the file's packets cannot be read: {child.complaint()}")
    if status or not header:
        raise VideoError(f"the file's packets cannot be read: {child.complaint()}")
    refuse_circumstances(name, [facts.get("error") or facts.get("cut") or ""], nothing_came="error" in facts)
    if "most" in facts:
        raise VideoError(too_many_reason(facts["most"]))
    if "error" in facts:
        raise VideoError(open_reason(name, facts, child.messages()))
    return video_info(facts, np.frombuffer(output, np.int64, offset=end).reshape(-1, PACKET_FIELDS))


def _checked_size(name: str) -> int:
    try:
        status = Path(name).stat()
        if not stat.S_ISREG(status.st_mode):
            raise VideoError("not a regular file (a folder, pipe or device cannot be indexed)")
        Path(name).open("rb").close()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise SourceError(f"cannot open {name}: {getattr(error, 'strerror', None) or error}") from error
    if not status.st_size:
        raise VideoError("the file is empty (0 bytes)")
    return status.st_size


def video_info(facts: dict[str, Any], packets: npt.NDArray[np.int64]) -> VideoInfo:
    """The video's true times and size, from what the worker printed. VideoError where nothing of it can be shown.

    ``packets``: int64 [packets, PACKET_FIELDS].
    """
    time_base = Fraction(facts["time_base"])
    dts_only = facts["format"] in _DTS_ONLY_FORMATS and facts["reordered"]
    shown = timeline(packets, time_base, dts_only, facts["first_decoded"])
    if not len(shown.ticks):
        raise VideoError(nothing_reason(facts, _claim(facts)))
    if len(shown.clock.shifts) > _MOST_RESTARTS:
        raise VideoError(restarts_reason(len(shown.clock.shifts), _MOST_RESTARTS))
    length = _last_length(facts, shown, time_base)
    color = color_tags(facts)
    width, height = displayed_size(facts)
    first = int(shown.ticks[0]) * time_base
    earliest = Fraction(facts["earliest"]) if facts["earliest"] else first
    duration = (int(shown.ticks[-1]) + length - int(shown.ticks[0])) * time_base
    return VideoInfo(
        width=width,
        height=height,
        duration=duration,
        start=max(Fraction(0), first - max(Fraction(0), earliest)),
        frame_count=len(shown.ticks),
        codec=str(facts["codec"]),
        stream_index=int(facts["stream_index"]),
        warnings=(*_color_warnings(color), *_warnings(facts, shown, float(duration), float(length * time_base))),
        time_base=time_base,
        ticks=shown.ticks,
        keys=shown.keys,
        clock=shown.clock,
        interlaced=bool(facts["interlaced"]),
        crop=cropping(facts),
        encrypted=bool(facts["encrypted"]),
        orientation=orientation(facts["matrix"]),
        color=color,
    )


def _last_length(facts: dict[str, Any], shown: Timeline, time_base: Fraction) -> int:
    """For how many ticks the last frame is shown: as the file claims if that is plausible, else as the others are."""
    if 0 < shown.last_length * time_base <= _LONGEST_STILL_S:
        return shown.last_length
    if len(shown.ticks) > 1:
        return max(1, round(float(np.median(np.diff(shown.ticks)))))
    rate = Fraction(facts["rate"]) if facts["rate"] else _DEFAULT_RATE
    return max(1, round(1 / (rate * time_base)))


def _claim(facts: dict[str, Any]) -> float | None:
    """Seconds that the header says the file lasts; None where the container has no such field."""
    if facts["format"] in _ESTIMATING_FORMATS:
        return None
    claim = facts["claim_s"] or facts["stream_claim_s"]
    return None if claim is None else float(claim)


def _warnings(facts: dict[str, Any], shown: Timeline, duration_s: float, length_s: float) -> Iterator[str]:
    if facts["format"] in RAW_FORMATS:
        frames = f"its {len(shown.ticks)} frames are taken to be evenly spread over {duration_s:.1f} s"
        yield f"a raw stream has no times: {frames}"
    if shown.unkeyed:
        yield f"frames at the beginning need an earlier part that is missing; left out: {shown.unkeyed}"
    if shown.clock.shifts:
        yield f"the file's own times jump, they were joined into one timeline; jumps: {len(shown.clock.shifts)}"
    if facts["cut"]:
        yield f"reading stopped at {duration_s:.1f} s: {facts['cut']}"
    if not shown.clock.shifts:
        first_s = float(int(shown.ticks[0]) * Fraction(facts["time_base"]))
        yield from _claim_warnings(facts, duration_s, max(0.0, first_s) + duration_s, length_s)


def _color_warnings(color: ColorTags) -> Iterator[str]:
    if color.refused:
        names = ", ".join(color.refused)
        yield f"colours are taken as is usual for the picture's size: the file gives them unknown tags ({names})"


def _claim_warnings(facts: dict[str, Any], duration_s: float, end_s: float, length_s: float) -> Iterator[str]:
    """Where a claim of the header is wrong, whether it counts from the first frame or from zero."""
    whole, pictures = _claim(facts), facts["stream_claim_s"]
    if whole is None:
        return
    slack = max(_CLAIM_SLACK_S, whole * _CLAIM_SLACK_SHARE)
    early = max(slack, 2 * length_s)
    if pictures and end_s < pictures - early:
        yield f"the pictures end at {end_s:.1f} s of the {pictures:.1f} s the header claims"
    elif not pictures and not facts["others"] and max(end_s, facts["end_s"]) < whole - early:  # of picture and sound
        yield f"the file ends at {max(end_s, facts['end_s']):.1f} s of the {whole:.1f} s its header claims"
    elif duration_s > whole + max(slack, _MISCOUNTED_FRAMES * length_s):
        yield f"the pictures run for {duration_s:.1f} s, the header claims {whole:.1f} s"
