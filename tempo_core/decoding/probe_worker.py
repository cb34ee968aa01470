"""Reads every packet of one file and reports what is in it: ``python probe_worker.py FORMATS PATH``.

It runs as a script in a process of its own, so that a demuxer that crashes, hangs or eats memory on a bad file costs
that file only. It imports nothing of this package, so that it starts fast; the package imports its constants.

Standard output: one line of JSON (``{"error": ...}`` or the facts), then ``PACKET_FIELDS`` native int64 for each
packet, in decoding order, which ``timeline.py`` judges. FFmpeg's own messages go to standard error.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from fractions import Fraction
from typing import Any

import av
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

PICTURES_ONLY = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
MAX_PIXELS = 1 << 27  # 16384 x 8192; beyond it a hostile header could ask for gigabytes
MAX_DECODE_TRIES = 200  # packets; enough for the longest reordering delay
# Codecs for which FFmpeg can fill in missing presentation times; H.264 is not one.
ONE_DEEP_REORDERING = ("mpeg1video", "mpeg2video", "mpeg4")
RUN_LENGTH_CODECS, END_OF_PICTURE = ("camtasia", "msrle"), b"\x00\x01"
PACKET_FIELDS = 4  # presentation time, decoding time, length (all in ticks of the stream's time base), flags
NO_TIME = -(1 << 63)  # for a time that the packet does not carry (FFmpeg's AV_NOPTS_VALUE)
KEY, HIDDEN = 1, 2  # flags: a key frame; a frame that is decoded but not shown
GENERATE_TIMES = 0x0001  # AVFMT_FLAG_GENPTS


def main(formats: str, path: str) -> None:
    """Prints what is in ``path``. ``formats``: separated by commas, the only ones that it is opened as."""
    av.logging.set_level(av.logging.ERROR)
    av.logging.restore_default_callback()
    SideDataType._missing_ = classmethod(_unknown_side_data)  # type: ignore[method-assign, assignment]
    options = {"format_whitelist": formats, "protocol_whitelist": "file", "fflags": "-genpts"}
    try:
        with av.open(f"file:{path}", container_options=options, metadata_errors="replace") as container:
            facts, rows = scan(container)
    except (av.FFmpegError, UnicodeError) as error:
        facts, rows = {"error": getattr(error, "strerror", None) or str(error)}, array("q")
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n")
    sys.stdout.buffer.write(rows)


def scan(container: InputContainer) -> tuple[dict[str, Any], array[int]]:
    """The facts of the video stream that players would choose, and its packets' rows, one after the other."""
    stream = choose_stream(container)
    if stream is None:
        return nothing_facts(container), array("q")
    if stream.codec_context.name in ONE_DEEP_REORDERING:
        container.flags |= GENERATE_TIMES
    rows = array("q")
    stream.codec_context.copy_opaque = True
    frame, end_s, cut = read_packets(container, stream, rows)
    return stream_facts(stream, frame) | container_facts(container, stream) | {"end_s": end_s, "cut": cut}, rows


def nothing_facts(container: InputContainer) -> dict[str, Any]:
    """What there is where no video stream can be decoded."""
    streams = container.streams
    unknown = sum(decoder_of(stream) is None for stream in streams.video)
    return {
        "error": "no video stream",
        "unknown": unknown,
        "pictures": len(streams.video),
        "sounds": len(streams.audio),
    }


def choose_stream(container: InputContainer) -> VideoStream | None:
    """As players choose: the stream marked default, then the largest picture, then the first; never cover art."""
    decodable = [stream for stream in container.streams.video if decoder_of(stream) is not None]
    return max((stream for stream in decodable if not stream.disposition & PICTURES_ONLY), key=_rank, default=None)


def decoder_of(stream: VideoStream) -> VideoCodecContext | None:
    """None (which PyAV's types leave out) where the codec is unknown or cannot be decoded."""
    return stream.codec_context


def _rank(stream: VideoStream) -> tuple[bool, int, int]:
    default = bool(stream.disposition & Disposition.default)
    return default, stream.width * stream.height, -stream.index


def read_packets(
    container: InputContainer, stream: VideoStream, rows: array[int]
) -> tuple[VideoFrame | None, float, str | None]:
    """Fills ``rows``. Returns the first decoded frame, the end of the last packet of picture or sound in seconds, and
    the error that ended the reading, if any."""
    frame, tries, end_s, cut = None, 0, 0.0, None
    if stream.width * stream.height > MAX_PIXELS:
        tries = MAX_DECODE_TRIES
    streams = [stream, *container.streams.audio]
    try:
        for packet in container.demux(streams):
            end_s = max(end_s, _end_s(packet))
            if packet.stream is not stream or not packet.size:
                continue
            if rows and shows_nothing_new(packet, stream):
                rows[-2] += packet.duration or 0
                continue
            if frame is None and tries < MAX_DECODE_TRIES:
                packet.opaque = len(rows) // PACKET_FIELDS
                frame, tries = _try_decode(packet), tries + 1
            rows.extend(_row(packet, KEY * packet.is_keyframe + HIDDEN * is_hidden(packet, stream)))
    except av.FFmpegError as error:
        cut = error.strerror or str(error)
    return (_flushed(stream) if frame is None else frame), end_s, cut


def _row(packet: Packet[Any], flags: int) -> tuple[int, int, int, int]:
    pts, dts = packet.pts, packet.dts
    return NO_TIME if pts is None else pts, NO_TIME if dts is None else dts, packet.duration or 0, flags


def _end_s(packet: Packet[Any]) -> float:
    if packet.pts is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def is_hidden(packet: Packet[Any], stream: VideoStream) -> bool:
    """Whether it is pre-roll that an edit list hides, or a VP8 frame that only others refer to."""
    if packet.is_discard:
        return True
    return stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10  # RFC 6386, 9.1: show_frame


def shows_nothing_new(packet: Packet[Any], stream: VideoStream) -> bool:
    """Whether it only says that the picture before it stays: no decoder makes a frame of it."""
    return stream.codec_context.name in RUN_LENGTH_CODECS and packet.size == 2 and bytes(packet) == END_OF_PICTURE


def _try_decode(packet: Packet[Any]) -> VideoFrame | None:
    try:
        frames: list[VideoFrame] = packet.decode()
    except av.FFmpegError:
        return None
    return frames[0] if frames else None


def _flushed(stream: VideoStream) -> VideoFrame | None:
    """The frame that a decoder still holds back, for a video of one or two frames."""
    try:
        return next(iter(stream.decode(None)), None)
    except av.FFmpegError:
        return None


def stream_facts(stream: VideoStream, frame: VideoFrame | None) -> dict[str, Any]:
    """Size, shape of a pixel, orientation and colour; from the first frame, or from the header without one."""
    source = stream.codec_context if frame is None else frame
    aspect = stream.sample_aspect_ratio
    return {
        "codec": stream.codec_context.name,
        "stream_index": stream.index,
        "first_decoded": None if frame is None else frame.opaque,
        "reordered": bool(stream.codec_context.has_b_frames),
        "time_base": str(Fraction(stream.time_base or 1)),
        "width": source.width,
        "height": source.height,
        "aspect": str(aspect) if aspect else None,
        "matrix": display_matrix(frame),
        "interlaced": bool(frame is not None and frame.interlaced_frame),
        "rate": str(stream.guessed_rate) if stream.guessed_rate else None,
        "color": [int(getattr(source, name, 2)) for name in ("color_trc", "colorspace", "color_primaries")],
    }


def display_matrix(frame: VideoFrame | None) -> list[int] | None:
    """The nine numbers of a display matrix, 16.16 fixed point, or None."""
    attached: Any = () if frame is None else frame.side_data  # PyAV's types call its items str
    matrices = [side for side in attached if side.type == SideDataType.DISPLAYMATRIX]
    return list(struct.unpack("=9i", bytes(matrices[0]))) if matrices else None


def _unknown_side_data(kind: type[Any], value: int) -> Any:
    """A member for a kind of side data that is newer than PyAV, which would refuse the whole frame for it."""
    member = object.__new__(kind)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member


def container_facts(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    """What the header claims, and the earliest time of any picture or sound."""
    streams = (*container.streams.audio, stream)
    starts = [s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base is not None]
    return {
        "format": container.format.name,
        "earliest": str(min(starts)) if starts else None,
        "claim_s": container.duration / av.time_base if container.duration else None,
        "stream_claim_s": float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None,
    }


if __name__ == "__main__":
    main(*sys.argv[1:3])
