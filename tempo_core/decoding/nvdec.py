"""Decoding on an NVIDIA GPU, where pictures are made smaller before they are copied to the host.

The GPU halves a picture while it stays at least as large as wanted (``scale_cuda``'s bilinear filter covers all
pixels at a half, while its bicubic would alias); the rest is the one antialiased resample of ``graph.py``, of fewer
pixels. What the GPU cannot decode is an error: a mixture of two decoders' pixels would share one identity.
"""

from __future__ import annotations

import subprocess
from typing import Any

from tempo_core.decoding.binary import check_ffmpeg, find_ffmpeg
from tempo_core.decoding.display import swaps_edges
from tempo_core.decoding.video import VideoInfo
from tempo_core.errors import TempoError
from tempo_core.spec import IndexSpec

GPU_INPUT = {"hwaccel": "cuda", "hwaccel_output_format": "cuda", "threads": "1"}  # they would only wait

_QUESTION_DEADLINE_S = 60.0  # a GPU that nobody uses may take seconds to wake
_CLIP = "-f lavfi -i color=size=256x128:rate=25:duration=0.2 -c:v mpeg2video -f mpegts pipe:1"  # any ffmpeg makes it
_DECODING = (
    "-hwaccel cuda -hwaccel_output_format cuda -f mpegts -i pipe:0 "
    "-vf scale_cuda=iw/2:ih/2:format=nv12,hwdownload,format=nv12 -f null -"
)


def check_decoder(spec: IndexSpec) -> None:
    """TempoError unless ffmpeg runs and can decode as ``spec`` says here: asked before a run, for all its videos."""
    check_ffmpeg()
    if spec.decoder == "software":
        return
    ffmpeg = find_ffmpeg()
    try:
        clip = _asked(ffmpeg, _CLIP, b"")
        _asked(ffmpeg, _DECODING, clip)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise TempoError(_refusal(spec, ffmpeg, reason[0] if reason else "no reason given")) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise TempoError(_refusal(spec, ffmpeg, str(error))) from error


def _asked(ffmpeg: str, arguments: str, given: bytes) -> bytes:
    command = [ffmpeg, "-hide_banner", "-loglevel", "error", *arguments.split()]
    return subprocess.run(command, input=given, capture_output=True, check=True, timeout=_QUESTION_DEADLINE_S).stdout


def _refusal(spec: IndexSpec, ffmpeg: str, reason: str) -> str:
    return (
        f"index spec {spec.name!r} decodes on an NVIDIA GPU, and {ffmpeg} cannot do it here ({reason}): it takes "
        f"an ffmpeg built with CUDA and NVIDIA's libnvcuvid; or choose a spec that decodes in software, as paper does"
    )


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
