"""Why a file is no usable video: what it is, what is wrong with it and what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tempo_core.decoding.probe_worker import LEAST_BYTES, MOST_PICTURES

_HEAD_BYTES = 1 << 12
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_SEGMENT_BOXES = (b"styp", b"sidx", b"moof", b"prft", b"emsg")
_REWRITE = "ffmpeg -i FILE NEW.mkv"
_OTHER_FILES = (
    (rb"(?i)\s*(<!doctype html|<html|<head|<body)", "a web page (often a refusal); download the video itself"),
    (rb"\s*(<\?xml|<svg|\{|\[)", "text for programs (XML, JSON), no video; it may name one"),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ", "an archive; unpack it and index what it holds"),
    (rb"%PDF|\xd0\xcf\x11\xe0|\x7fELF|MZ", "a document or a program, no video"),
    (rb"\x00+$", "nothing but zeros: it was never written to its end; copy it again from where it came from"),
    (rb"[\t\n\r\x20-\x7e]+$", "text, no video"),
)
_PICTURES = re.compile(r"image2|.*_pipe$|apng|ico|webp")
_PLAYLISTS = ("hls", "applehttp", "dash", "concat", "sdp", "rtsp", "imf", "smil", "webm_dash_manifest")
_SOUNDS = re.compile(r"(mp3|wav|flac|aac|ac3|eac3|aiff|au|amr|ape|caf|dts|w64|voc|tta|wv|loas|latm|opus|oga)")
_SOUND_BEGINS = re.compile(
    rb"ID3|\xff[\xe0-\xff]|RIFF|fLaC|FORM|\.snd|#!AMR|MAC |caff|TTA1|wvpk|\x0b\x77|\x7f\xfe|V\xb7|Creative"
)


def open_reason(name: str, facts: dict[str, Any], messages: list[str]) -> str:
    """For a file that cannot be opened, or has no video stream. ``messages``: FFmpeg's own."""
    head = _head(name)
    if facts["error"] == "no video stream":
        return f"no video stream that can be decoded ({_what_else(facts)})"
    if head[4:8] in _SEGMENT_BOXES:
        return (
            "no video that can be read: it is a segment of an MP4 stream, without the init part that says how to "
            "decode it; join them (cat INIT SEGMENT... > NEW.mp4) and index the result"
        )
    refused = re.search(r"\[(\S+) @ \S+\] Format not on whitelist", "\n".join(messages))
    if refused and (kind := _kind(refused[1], head)):
        return f"files of the kind {refused[1]!r} are not read: {kind}"
    if any("moov atom not found" in message for message in messages) and head[4:8] in _MP4_BOXES:
        return (
            "the file has no index (moov atom not found): it was cut short or never finished; "
            "copy it again, or repair it with the help of an intact file of the same camera (untrunc)"
        )
    for pattern, what in _OTHER_FILES:
        if re.match(pattern, head):
            return f"no video that can be read: it is {what}"
    return (
        f"no video that can be read: its content is of no kind that is known, or its beginning is damaged "
        f"({facts['error']}); see whether a player shows it, and copy it again from where it came from"
    )


def too_many_reason(most: int) -> str:
    """For more packets than the ``most`` that are read of a file."""
    if most < MOST_PICTURES:
        return (
            f"its tables claim more than the {most} pictures and sounds that a file of its size has room for, of "
            f"which each takes {LEAST_BYTES} bytes at least: they are damaged or made up; copy the file again from "
            "where it came from"
        )
    return (
        f"the file claims more than {most} pictures, a day at 120 a second, and at most so many are read: cut it into "
        "parts (ffmpeg -i FILE -c copy -f segment -segment_time 3600 PART%d.mkv) and index those"
    )


def memory_reason(most_bytes: int) -> str:
    """For a file whose packets were not read within the ``most_bytes`` of memory that a scan may take."""
    return (
        f"reading its packets takes more than the {most_bytes >> 20} MiB of memory that a file may take: its tables "
        "are damaged or made up; if a player shows it, cut it into parts (ffmpeg -i FILE -c copy -f segment "
        "-segment_time 3600 PART%d.mkv) and index those"
    )


def decoding_reason(complaint: str, codec: str) -> str:
    """What to do where too few frames can be decoded, behind ffmpeg's ``complaint``."""
    if "patches welcome" in complaint or "not implemented" in complaint.lower():
        return f"this ffmpeg lacks a part of {codec}; a newer one may have it (TEMPO_FFMPEG), or convert the file"
    return f"if a player shows its {codec} pictures, convert the file ({_REWRITE}); else copy it again"


def _head(name: str) -> bytes:
    with Path(name).open("rb") as file:
        return file.read(_HEAD_BYTES)


def _kind(kind: str, head: bytes) -> str | None:
    """What a file is that FFmpeg takes for a ``kind`` that is not read; None where that is a mere guess."""
    names = kind.split(",")
    if any(map(_PICTURES.match, names)):
        return "it is a picture, no video"
    if any(name in _PLAYLISTS for name in names):
        return "it is a playlist, which only names other files; index those"
    if any(map(_SOUNDS.fullmatch, names)):
        return "it is sound, no video" if _SOUND_BEGINS.match(head) else None
    return f"put its pictures into a container ({_REWRITE}) and index that"


def _what_else(facts: dict[str, Any]) -> str:
    if facts["unknown"]:
        return f"its codec is unknown; convert it with a program that knows it, or {_REWRITE}"
    if not facts["pictures"] + facts["sounds"]:
        return "nothing is known in it: damaged, cut short, or of unknown codecs; see whether a player shows it"
    return "only a cover picture" if facts["pictures"] else "only sound"


def nothing_reason(facts: dict[str, Any], claim_s: float | None) -> str:
    """For a video stream without a frame to show. ``claim_s``: the seconds that the header claims."""
    if claim_s:
        return (
            f"the file ends before the first of the {claim_s:.1f} s of pictures that its header claims: "
            "it was cut short; copy it again from where it came from"
        )
    return (
        f"the {facts['codec']} video stream holds no picture that can be shown: it was cut short, or is the init part "
        "of a stream (then join it with its segments: cat INIT SEGMENT... > NEW.mp4)"
    )


def restarts_reason(count: int, most: int) -> str:
    return (
        f"the file's own times start anew {count} times, over the {most} that can be joined: "
        "cut it into its parts, or write it anew (ffmpeg -i FILE -c copy NEW.mkv)"
    )
