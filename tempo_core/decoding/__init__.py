"""Decoding: a packet scan that finds a file's true times, then sampled frames that ffmpeg streams."""

from __future__ import annotations

from tempo_core.decoding.binary import find_ffmpeg
from tempo_core.decoding.nvdec import check_decoder
from tempo_core.decoding.probing import probe
from tempo_core.decoding.reader import SegmentReader, read_segments
from tempo_core.decoding.video import VideoInfo

__all__ = [
    "SegmentReader",
    "VideoInfo",
    "check_decoder",
    "find_ffmpeg",
    "probe",
    "read_segments",
]
