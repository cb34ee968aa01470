"""Decoding: a packet scan that tells a file's true times, then sampled frames from one streaming pass of ffmpeg."""

from __future__ import annotations

from tempo_core.decoding.binary import check_ffmpeg, find_ffmpeg
from tempo_core.decoding.nvdec import check_decoder
from tempo_core.decoding.probing import probe
from tempo_core.decoding.reader import SegmentReader, read_segments
from tempo_core.decoding.video import ColorTags, VideoInfo

__all__ = [
    "ColorTags",
    "SegmentReader",
    "VideoInfo",
    "check_decoder",
    "check_ffmpeg",
    "find_ffmpeg",
    "probe",
    "read_segments",
]
