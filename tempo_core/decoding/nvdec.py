"""Decoding on an NVIDIA GPU, where pictures are made smaller before they are copied to the host.

The GPU halves a picture while it stays at least as large as wanted (``scale_cuda``'s bilinear filter covers all
pixels at a half, while its bicubic would alias); the rest is the one antialiased resample of ``graph.py``, of fewer
pixels. What the GPU cannot decode is an error: a mixture of two decoders' pixels would share one identity.
"""

from __future__ import annotations

from typing import Any

from tempo_core.decoding.display import swaps_edges
from tempo_core.decoding.video import VideoInfo

GPU_INPUT = {"hwaccel": "cuda", "hwaccel_output_format": "cuda"}
FILTERS = frozenset({"scale_cuda", "hwdownload"})


def shrunk_on_gpu(stream: Any, info: VideoInfo, size: tuple[int, int]) -> Any:
    """``stream``, made smaller on the GPU as far as ``size`` (width, height) allows, and copied to the host.

    8 bits a sample, or 10 where the brightness is still to be mapped (HDR).
    """
    sample = "p010le" if info.color.is_hdr else "nv12"
    halvings = _halvings(info, size)
    for _ in range(halvings):
        stream = stream.filter("scale_cuda", "iw/2", "ih/2", interp_algo="bilinear", format=sample)
    if not halvings:
        stream = stream.filter("scale_cuda", "iw", "ih", format=sample)
    return stream.filter("hwdownload").filter("format", sample)


def _halvings(info: VideoInfo, size: tuple[int, int]) -> int:
    width, height = (info.height, info.width) if swaps_edges(info.orientation) else (info.width, info.height)
    halvings = 0
    while width >> (halvings + 1) >= size[0] and height >> (halvings + 1) >= size[1]:
        halvings += 1
    return halvings
