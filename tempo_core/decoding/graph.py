"""The ffmpeg command of one pass: select frames, resize, correct colours, turn upright, write raw frames with times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ffmpeg

from tempo_core.decoding.binary import filters_of
from tempo_core.decoding.clock import in_ticks, selected
from tempo_core.decoding.display import swaps_edges
from tempo_core.decoding.nvdec import GPU_INPUT, shrunk_on_gpu
from tempo_core.decoding.probe_worker import MAX_PIXELS, ONE_DEEP_REORDERING
from tempo_core.decoding.probing import FORMATS
from tempo_core.decoding.video import VideoInfo
from tempo_core.spec import Decoder

_INPUT = "file:"  # stands for the path in the graph: ffmpeg-python takes no name that is not UTF-8
# Catmull-Rom (B 0, C 0.5), the bicubic of Pillow and torch; antialiased when shrinking, chroma not subsampled twice.
_BICUBIC = {"flags": "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp", "param0": "0", "param1": "0.5"}
_TONE_FILTERS = frozenset({"zscale", "tonemap"})
_SWSCALE_MATRICES = {"bt2020nc": "bt2020", "bt2020c": "bt2020", "bt470bg": "bt601", "smpte170m": "bt601"}
_REFERENCE_WHITE_NITS = 203  # ITU-R BT.2408: the brightness of a white page in HDR


def tone_maps(ffmpeg_path: str, info: VideoInfo) -> bool:
    """Whether the video is HDR and this ffmpeg can bring its brightness into a normal picture."""
    return info.color.is_hdr and filters_of(ffmpeg_path) >= _TONE_FILTERS


@dataclass(frozen=True)
class Source:
    """What all passes over a video share. ``size``: final (width, height), upright. ``threads``: of the decoder; None
    leaves their number to ffmpeg."""

    path: str
    info: VideoInfo
    size: tuple[int, int]
    threads: int | None = None
    decoder: Decoder = "software"


@dataclass(frozen=True)
class Pass:
    """One run of ffmpeg. ``select``: an expression for the frames to hand over; None: all that are decoded.
    ``keys_only``: decode nothing but key frames. ``begin``: the tick of the key frame to begin at; None: the first."""

    select: str | None = None
    keys_only: bool = False
    begin: int | None = None


def command(ffmpeg_path: str, source: Source, run: Pass) -> list[str]:
    """Arguments that make ffmpeg write the frames of one pass to standard output, as NUT with rgb24.

    Times are ticks of ``info.time_base`` from ``clock.origin`` on.
    """
    info = source.info
    clock = f"{info.time_base.numerator}/{info.time_base.denominator}"
    stream = _input(source, run)[str(info.stream_index)]
    if info.color.refused:
        stream = stream.filter("setparams", **dict.fromkeys(info.color.refused, "unknown"))
    stream = stream.filter("settb", clock)
    stream = selected(in_ticks(stream, info), info, run.select)
    if info.crop is not None and source.decoder == "software":
        stream = _cropped(stream, *info.crop)
    if source.decoder == "nvdec":
        stream = shrunk_on_gpu(stream, info, coded_size(source))
    stream = _turn(_pixels(stream, info, coded_size(source), tone_maps(ffmpeg_path, info)), info)
    stream = ffmpeg.output(stream, "pipe:1", **_output_options(clock))
    arguments = [f"file:{source.path}" if argument == _INPUT else argument for argument in ffmpeg.get_args(stream)]
    return [ffmpeg_path, "-hide_banner", "-nostdin", "-loglevel", "error", *arguments]


def coded_size(source: Source) -> tuple[int, int]:
    """The final (width, height) before the picture is turned upright."""
    width, height = source.size
    return (height, width) if swaps_edges(source.info.orientation) else (width, height)


def _input(source: Source, run: Pass) -> Any:
    """Reads the file and nothing else: no other protocol, no playlist, no name that looks like an option."""
    info = source.info
    options: dict[str, str | None] = {}
    if info.codec in ONE_DEEP_REORDERING:
        options["fflags"] = "+genpts"
    elif info.clock.complete and run.begin is None:  # seeking needs decoding times
        options["fflags"] = "+igndts"  # for one time out of order, FFmpeg would believe decoding times ever after
    if not info.clock.is_plain:
        options["reinit_filter"] = "0"  # a larger picture would begin a new graph, which knows nothing of the old
    if source.decoder == "nvdec":
        options |= GPU_INPUT
    if source.threads is not None:
        options["threads"] = str(source.threads)
    if run.keys_only:
        options["skip_frame"] = "nokey"
    if run.begin is not None:
        options |= {"noaccurate_seek": None, "seek_timestamp": "1", "ss": f"{float(run.begin * info.time_base):.6f}"}
    return ffmpeg.input(
        _INPUT,
        noautorotate=None,
        copyts=None,
        format_whitelist=FORMATS,
        protocol_whitelist="file,pipe",
        max_pixels=MAX_PIXELS,
        **options,
    )


def _output_options(clock: str) -> dict[str, str]:
    return {
        "f": "nut",
        "fps_mode": "passthrough",
        "vcodec": "rawvideo",
        "pix_fmt": "rgb24",
        "enc_time_base": clock.replace("/", ":"),
        "write_index": "0",  # an index would grow in memory with the video
        "map_metadata": "-1",  # titles and the like are bytes of any encoding, and nobody reads them
        "map_chapters": "-1",
    }


def _cropped(stream: Any, width: int, height: int, left: int, top: int) -> Any:
    """Since version 7.1 ffmpeg crops by itself; then nothing is left to do."""
    corner = (f"if(gt(iw,{width}),{left},0)", f"if(gt(ih,{height}),{top},0)")
    return stream.filter("crop", f"min(iw,{width})", f"min(ih,{height})", *corner)


def _pixels(stream: Any, info: VideoInfo, size: tuple[int, int], tone_map: bool) -> Any:
    """One resample to ``size``, in 8-bit RGB."""
    width, height = size
    if tone_map:
        # zscale refuses odd sizes of subsampled pictures, so swscale resamples here too, and keeps 12 bits.
        return _tone_mapped(stream.filter("scale", width, height, **_BICUBIC).filter("format", "yuv444p12le"), info)
    options = dict(_BICUBIC)
    if info.color.matrix not in (None, "gbr"):
        options["in_color_matrix"] = _SWSCALE_MATRICES.get(str(info.color.matrix), str(info.color.matrix))
    return stream.filter("scale", width, height, **options).filter("format", "rgb24")


def _tone_mapped(stream: Any, info: VideoInfo) -> Any:
    """From HDR to linear light, where highlights are rolled off, and to BT.709."""
    tags = {
        "transferin": info.color.transfer,
        "matrixin": info.color.matrix or "bt2020nc",
        "primariesin": info.color.primaries or "bt2020",
    }
    linear = {"transfer": "linear", "primaries": "bt709", "matrix": "gbr", "range": "full"}
    return (
        stream.filter("zscale", npl=_REFERENCE_WHITE_NITS, **linear, **tags)
        .filter("format", "gbrpf32le")
        .filter("tonemap", "mobius", desat=0)
        .filter("zscale", transferin="linear", primariesin="bt709", matrixin="gbr", transfer="bt709")
        .filter("format", "gbrp")
        .filter("format", "rgb24")
    )


def _turn(stream: Any, info: VideoInfo) -> Any:
    for name, argument in info.orientation:
        stream = stream.filter(name, argument) if argument else stream.filter(name)
    return stream
