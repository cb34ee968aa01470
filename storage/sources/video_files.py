"""Which of the files below a folder or prefix are taken for videos: by their names, where these tell."""

from __future__ import annotations

import os
import re
from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    (
        ".264 .265 .3g2 .3gp .asf .avi .divx .dv .f4v .flv .h264 .h265 .hevc .ivf .m1v .m2t .m2ts .m2v .m4v .mj2 .mkv "
        ".mov .mp4 .mpeg .mpg .mts .mxf .nut .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .wtv .y4m"
    ).split()
)
# Mostly stills and sound. What the head of a video holds: of a GIF that it repeats, of an Ogg file the name of a codec.
_VIDEO_HEADS = {".gif": rb"GIF8.*NETSCAPE2\.0", ".ogg": rb"OggS.*(\x80theora|OVP80|BBCD\0|\x01video\0)"}
_HEAD_BYTES = 1 << 12


def is_video(name: str) -> bool:
    """Whether a path or URI ends like a video that is not hidden."""
    return not _file_name(name).startswith(".") and suffix(name) in VIDEO_SUFFIXES


def may_be_video(name: str) -> bool:
    """``is_video``, or its suffix leaves that open."""
    return is_video(name) or (not _file_name(name).startswith(".") and suffix(name) in _VIDEO_HEADS)


def is_video_file(path: Path) -> bool:
    """Whether a file on a disk is taken: one whose suffix leaves it open is looked into."""
    if is_video(path.name) or not may_be_video(path.name):
        return is_video(path.name)
    try:
        if not path.is_file():
            return False  # a pipe would be waited for
        with path.open("rb") as file:
            return re.match(_VIDEO_HEADS[suffix(path.name)], file.read(_HEAD_BYTES), re.DOTALL) is not None
    except OSError:
        return False


def suffix(name: str) -> str:
    """In lower case, with its dot; empty for none."""
    return os.path.splitext(_file_name(name))[1].lower()  # noqa: PTH122 - or a URI


def _file_name(name: str) -> str:
    return name.rsplit("/", 1)[-1]
