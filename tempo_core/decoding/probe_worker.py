"""Reads every packet of one file and says what is in it. Run as a script, in a process of its own.

A demuxer that crashes, hangs or eats memory on a bad file then costs that file only. The script imports nothing of
this package, so it starts fast: ``python probe_worker.py FORMATS PATH``. Standard output: one line of JSON
(``{"error": ...}`` or the facts), then each frame's presentation time as native int64. FFmpeg's own messages go to
standard error.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from dataclasses import dataclass, field
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
BACKWARD_JUMP_S, FORWARD_JUMP_S = 1, 3600  # a timeline that jumps so far has been restarted
DTS_ONLY_FORMATS = ("avi",)  # these carry decoding times only; FFmpeg's guesses for B-frames there are wrong


@dataclass
class Timeline:
    """Presentation times of one video stream, as its packets come."""

    time_base: Fraction
    in_order: bool
    ticks: array[int] = field(default_factory=lambda: array("q"))
    decoding_ticks: array[int] = field(default_factory=lambda: array("q"))
    last_tick: int = -(1 << 62)
    last_length: int = 0
    first_key: int | None = None
    unkeyed: int = 0
    restarts: int = 0
    _offset: int = 0
    _previous_dts: int | None = None
    _previous_length: int = 0

    def add(self, packet: Packet[Any]) -> None:
        """Note one packet that will be shown."""
        offset = self._offset_for(packet)
        if packet.dts is not None:
            self.decoding_ticks.append(packet.dts + offset)
        if packet.pts is None:  # no times but decoding times; or the second field of a picture
            return
        tick = packet.pts + offset
        if packet.is_keyframe and self.first_key is None:
            self.first_key, self.unkeyed = tick, len(self.ticks)
        self.ticks.append(tick)
        if tick > self.last_tick:
            self.last_tick, self.last_length = tick, packet.duration or 0

    def _offset_for(self, packet: Packet[Any]) -> int:
        """What to add to this packet's times so that a timeline that restarts runs on."""
        if packet.dts is None:
            return self._offset
        if self._previous_dts is not None:
            jump = (packet.dts - self._previous_dts) * self.time_base
            if not -BACKWARD_JUMP_S <= jump <= FORWARD_JUMP_S:
                self._offset += self._previous_dts + self._previous_length - packet.dts
                self.restarts += 1
        self._previous_dts, self._previous_length = packet.dts, packet.duration or self._previous_length
        return self._offset

    def shown(self) -> array[int]:
        """Ascending, each once; from the first key frame, since nothing before it can be decoded."""
        if self.in_order or len(self.decoding_ticks) > 2 * len(self.ticks):
            self.in_order, self.unkeyed = True, 0
            return array("q", sorted(set(self.decoding_ticks)))
        ticks, first = self.ticks, self.first_key
        if first is not None:
            ticks = array("q", (tick for tick in self.ticks[self.unkeyed :] if tick >= first))
        return array("q", sorted(set(ticks)))


def main(formats: str, path: str) -> None:
    """Print what is in ``path``, opened only as one of the comma-separated ``formats``, from files only."""
    av.logging.set_level(av.logging.ERROR)
    av.logging.restore_default_callback()
    options = {"format_whitelist": formats, "protocol_whitelist": "file", "fflags": "-genpts"}
    try:
        with av.open(f"file:{path}", container_options=options, metadata_errors="replace") as container:
            facts, ticks = scan(container)
    except (av.FFmpegError, UnicodeError) as error:
        facts, ticks = {"error": getattr(error, "strerror", None) or str(error)}, array("q")
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n")
    sys.stdout.buffer.write(ticks.tobytes())


def scan(container: InputContainer) -> tuple[dict[str, Any], array[int]]:
    """The facts of the best video stream, and its frames' times."""
    stream = choose_stream(container)
    if stream is None:
        unknown = [stream for stream in container.streams.video if decoder_of(stream) is None]
        facts = {"error": "no video stream", "unknown": len(unknown), "pictures": len(container.streams.video)}
        return facts | {"sounds": len(container.streams.audio)}, array("q")
    timeline = Timeline(Fraction(stream.time_base or 1), container.format.name in DTS_ONLY_FORMATS)
    frame, end_s, cut = read_packets(container, stream, timeline)
    ticks = timeline.shown()
    facts = stream_facts(stream, frame) | container_facts(container, stream) | {
        "last_length": timeline.last_length,
        "unkeyed": timeline.unkeyed,
        "restarts": timeline.restarts,
        "in_order": timeline.in_order or timeline.restarts > 0,
        "end_s": end_s,
        "cut": cut,
    }  # fmt: skip
    return facts, ticks


def choose_stream(container: InputContainer) -> VideoStream | None:
    """As players choose: the stream marked default, then the largest picture, then the first; never cover art."""
    known = [stream for stream in container.streams.video if decoder_of(stream) is not None]
    return max((stream for stream in known if not stream.disposition & PICTURES_ONLY), key=_rank, default=None)


def decoder_of(stream: VideoStream) -> VideoCodecContext | None:
    """The stream's decoder; None (which PyAV's types leave out) where the codec is unknown or cannot be decoded."""
    return stream.codec_context


def _rank(stream: VideoStream) -> tuple[bool, int, int]:
    default = bool(stream.disposition & Disposition.default)
    return default, stream.width * stream.height, -stream.index


def read_packets(
    container: InputContainer, stream: VideoStream, timeline: Timeline
) -> tuple[VideoFrame | None, float, str | None]:
    """Fills ``timeline``; returns the first decoded frame, the end of the last packet of any kind, and what broke."""
    frame, tries, end_s, cut = None, 0, 0.0, None
    if stream.width * stream.height > MAX_PIXELS:
        tries = MAX_DECODE_TRIES
    heard = [stream, *container.streams.audio]
    try:
        for packet in container.demux(heard):
            end_s = max(end_s, _end_s(packet))
            if packet.stream is not stream or not packet.size:
                continue
            if frame is None and tries < MAX_DECODE_TRIES:
                frame, tries = _try_decode(packet), tries + 1
            if is_shown(packet, stream):
                timeline.add(packet)
    except av.FFmpegError as error:
        cut = error.strerror or str(error)
    return (_flushed(stream) if frame is None else frame), end_s, cut


def _end_s(packet: Packet[Any]) -> float:
    if packet.pts is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def is_shown(packet: Packet[Any], stream: VideoStream) -> bool:
    """Not pre-roll that an edit list hides, nor a VP8 frame that only others refer to."""
    if packet.is_discard:
        return False
    if stream.codec_context.name == "vp8":
        return bool(memoryview(packet)[0] & 0x10)  # RFC 6386 section 9.1: show_frame
    return True


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
    found = [side for side in attached if side.type == SideDataType.DISPLAYMATRIX]
    return list(struct.unpack("=9i", bytes(found[0]))) if found else None


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
