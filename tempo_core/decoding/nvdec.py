"""Decoding on an NVIDIA GPU, which makes pictures smaller before they are copied to the host.

The GPU halves a picture as long as the half is not smaller than the final size. It uses ``scale_cuda``'s bilinear
filter, which reads every pixel when halving; the bicubic one would alias. Then ``graph.py`` resamples to the final
size, antialiased, as it does for other decoders, but from fewer pixels.

A video that the GPU cannot decode is an error. Software does not stand in: its pixels differ a little, and the index
spec, which is part of what identifies stored states, names one decoder.
"""

from __future__ import annotations

import subprocess
from typing import Any

from tempo_core.decoding.binary import check_ffmpeg, find_ffmpeg
from tempo_core.decoding.display import swaps_edges
from tempo_core.decoding.video import VideoInfo
from tempo_core.errors import TempoError
from tempo_core.spec import IndexSpec

GPU_INPUT = {"hwaccel": "cuda", "hwaccel_output_format": "cuda", "threads": "1"}  # more would only wait

_CHECK_DEADLINE_S = 60.0  # an idle GPU may take seconds to wake
_CLIP = "-f lavfi -i color=size=256x128:rate=25:duration=0.2 -c:v mpeg2video -f mpegts pipe:1"  # any ffmpeg can make it
_DECODING = (
    "-hwaccel cuda -hwaccel_output_format cuda -f mpegts -i pipe:0 "
    "-vf scale_cuda=iw/2:ih/2:format=nv12,hwdownload,format=nv12 -f null -"
)


def check_decoder(spec: IndexSpec) -> None:
    """TempoError unless ffmpeg can decode on this machine as ``spec`` asks. Called once before a run."""
    check_ffmpeg()
    if spec.decoder == "software":
        return
    ffmpeg = find_ffmpeg()
    try:
        clip = _output_of(ffmpeg, _CLIP, b"")
        _output_of(ffmpeg, _DECODING, clip)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise TempoError(_refusal(spec, ffmpeg, reason[0] if reason else "no reason given")) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise TempoError(_refusal(spec, ffmpeg, str(error))) from error


def _output_of(ffmpeg: str, arguments: str, standard_input: bytes) -> bytes:
    command = [ffmpeg, "-hide_banner", "-loglevel", "error", *arguments.split()]
    done = subprocess.run(command, input=standard_input, capture_output=True, check=True, timeout=_CHECK_DEADLINE_S)
    return done.stdout


def _refusal(spec: IndexSpec, ffmpeg: str, reason: str) -> str:
    return (
        f"index spec {spec.name!r} decodes on an NVIDIA GPU, and {ffmpeg} cannot do it here ({reason}): it takes "
        f"an ffmpeg built with CUDA and NVIDIA's libnvcuvid; or choose a spec that decodes in software, as paper does"
    )


def shrunk_on_gpu(stream: Any, info: VideoInfo, size: tuple[int, int]) -> Any:
    """``stream`` of GPU pictures, halved as often as ``size`` (the final width, height) allows and copied to the host.

    Samples have 8 bits, or 10 where the brightness is still to be mapped (HDR).
    """
    pixel_format = "p010le" if info.color.is_hdr else "nv12"
    halvings = _halvings(info, size)
    for _ in range(halvings):
        stream = stream.filter("scale_cuda", "iw/2", "ih/2", interp_algo="bilinear", format=pixel_format)
    if not halvings:
        stream = stream.filter("scale_cuda", "iw", "ih", format=pixel_format)
    return stream.filter("hwdownload").filter("format", pixel_format)


def _halvings(info: VideoInfo, size: tuple[int, int]) -> int:
    width, height = (info.height, info.width) if swaps_edges(info.orientation) else (info.width, info.height)
    halvings = 0
    while width >> (halvings + 1) >= size[0] and height >> (halvings + 1) >= size[1]:
        halvings += 1
    return halvings
