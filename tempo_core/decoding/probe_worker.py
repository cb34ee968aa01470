"""Reads every packet of one file and reports what is in it: ``python probe_worker.py FORMATS PATH``.

It runs as a script in a process of its own, so that a demuxer that crashes, hangs or eats memory on a bad file costs
that file only. It imports nothing of this package, so that it starts fast; the package imports its constants.

Standard output: one line of JSON (``{"error": ...}`` or the facts), then ``PACKET_FIELDS`` native int64 for each
packet, in decoding order, which ``timeline.py`` judges. FFmpeg's own messages go to standard error.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from array import array
from collections.abc import Iterator
from contextlib import suppress
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
MOST_STILLS = 2  # a track of so few frames is the still of a motion photo
MAX_TAIL_PACKETS, MAX_TAIL_BYTES = 300, 1 << 23
MOST_PICTURES = 24 * 60 * 60 * 120  # a day at 120 a second; their rows are 332 MB
LEAST_BYTES = 4  # of a file for each packet in it: one that says next to nothing takes as much with its place and time
LONG_S = 0.5
CROPPING = re.compile(r"^      Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)$", re.IGNORECASE | re.MULTILINE)
PACKET_FIELDS = 4  # presentation time, decoding time, length (all in ticks of the stream's time base), flags
NO_TIME = -(1 << 63)  # for a time that the packet does not carry (FFmpeg's AV_NOPTS_VALUE)
KEY, HIDDEN = 1, 2  # flags: a key frame; a frame that is decoded but not shown
GENERATE_TIMES = 0x0001  # AVFMT_FLAG_GENPTS


class TooManyPackets(Exception):
    """More than are read of a file: its argument."""


def main(formats: str, path: str) -> None:
    """Prints what is in ``path``. ``formats``: separated by commas, the only ones that it is opened as."""
    av.logging.set_level(av.logging.ERROR)
    av.logging.restore_default_callback()
    SideDataType._missing_ = classmethod(_unknown_side_data)  # type: ignore[method-assign, assignment]
    options = {"format_whitelist": formats, "protocol_whitelist": "file", "fflags": "-genpts"}
    try:
        with av.open(f"file:{path}", container_options=options, metadata_errors="replace") as container:
            facts, rows = scan(container)
    except TooManyPackets as error:
        facts, rows = {"error": "too many packets", "most": error.args[0]}, array("q")
    except MemoryError:
        raise
    except (av.FFmpegError, UnicodeError) as error:
        facts, rows = {"error": getattr(error, "strerror", None) or str(error)}, array("q")
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n")
    sys.stdout.buffer.write(rows)


def scan(container: InputContainer) -> tuple[dict[str, Any], array[int]]:
    """The facts of the video stream that players would choose, and its packets' rows, one after the other."""
    streams = [stream for stream in container.streams.video if decoder_of(stream) is not None]
    tracks = [Track(stream) for stream in streams if not stream.disposition & PICTURES_ONLY]
    if not tracks:
        return nothing_facts(container), array("q")
    if any(track.stream.codec_context.name in ONE_DEEP_REORDERING for track in tracks):
        container.flags |= GENERATE_TIMES
    crops = container_crops(container)
    end_s, cut = read_packets(container, tracks)
    track = max(tracks, key=Track.rank)
    track.finish()
    facts = stream_facts(track) | container_facts(container, track.stream)
    return facts | {"end_s": end_s, "cut": cut, "crop": crops.get(track.stream.index)}, track.rows


def nothing_facts(container: InputContainer) -> dict[str, Any]:
    """What there is where no video stream can be decoded."""
    pictures, sounds = container.streams.video, container.streams.audio
    unknown = sum(decoder_of(stream) is None for stream in pictures)
    return {"error": "no video stream", "unknown": unknown, "pictures": len(pictures), "sounds": len(sounds)}


def decoder_of(stream: VideoStream) -> VideoCodecContext | None:
    """None (which PyAV's types leave out) where the codec is unknown or cannot be decoded."""
    return stream.codec_context


class Track:
    """What is found out about one video stream while its packets are read.

    ``rows``: those of its packets. ``frame``: the first that was decoded, whose ``opaque`` is the number of its packet.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.stream = stream
        self.rows = array("q")
        self.frame: VideoFrame | None = None
        self.encrypted = False
        self._tries = MAX_DECODE_TRIES if stream.width * stream.height <= MAX_PIXELS else 0
        self._tail: list[Packet[Any]] = []  # from the last key frame on; none where that is too far away
        self._tail_bytes = 0
        stream.codec_context.copy_opaque = True

    def rank(self) -> tuple[bool, bool, int, int]:
        """As players choose: what moves before stills, the stream marked default, the largest picture, the first."""
        moves = len(self.rows) > MOST_STILLS * PACKET_FIELDS
        default = bool(self.stream.disposition & Disposition.default)
        return moves, default, self.stream.width * self.stream.height, -self.stream.index

    def take(self, packet: Packet[Any]) -> None:
        if self.rows and shows_nothing_new(packet, self.stream):
            self.rows[-2] += packet.duration or 0
            return
        packet.opaque = len(self.rows) // PACKET_FIELDS
        if self.frame is None and self._tries:
            self.frame, self._tries = next(_decoded(self.stream, packet), None), self._tries - 1
        self._keep(packet)
        self.rows.extend(_row(packet, KEY * packet.is_keyframe + HIDDEN * is_hidden(packet, self.stream)))
        self.encrypted = self.encrypted or packet.has_sidedata("encryption_info")

    def _keep(self, packet: Packet[Any]) -> None:
        if packet.is_keyframe or not self.rows:
            self._tail, self._tail_bytes = [packet], packet.size
        elif self._tail:
            self._tail.append(packet)
            self._tail_bytes += packet.size
            if len(self._tail) > MAX_TAIL_PACKETS or self._tail_bytes > MAX_TAIL_BYTES:
                self._tail.clear()

    def finish(self) -> None:
        """To be called once, when all packets are read."""
        if self.frame is None:
            self.frame = next(_decoded(self.stream, None), None)
        if self._tail and len(self.rows) > PACKET_FIELDS:
            last = max(self._tail, key=lambda packet: NO_TIME if packet.pts is None else packet.pts)
            if self._is_long(last) and (last.is_corrupt or not self._decodes(last)):
                at = int(last.opaque) * PACKET_FIELDS  # type: ignore[call-overload]
                del self.rows[at : at + PACKET_FIELDS]  # nobody sees it, so its length does not count

    def _is_long(self, packet: Packet[Any]) -> bool:
        length = packet.duration or 0
        is_long = length * packet.time_base > LONG_S  # seldom: millions of lengths may have to be sorted then
        return is_long and length > 2 * sorted(self.rows[2::PACKET_FIELDS])[len(self.rows) // PACKET_FIELDS // 2]

    def _decodes(self, packet: Packet[Any]) -> bool:
        self.stream.codec_context.flush_buffers()
        return any(
            frame.opaque == packet.opaque for each in (*self._tail, None) for frame in _decoded(self.stream, each)
        )


def read_packets(container: InputContainer, tracks: list[Track]) -> tuple[float, str | None]:
    """Fills the tracks. Returns the end of the last packet of picture or sound in seconds, and the error that ended
    the reading, if any.

    TooManyPackets where there are more than the file has room for (tables can claim the same bytes over and over) or
    than ``MOST_PICTURES``."""
    end_s, pictures, room = 0.0, 0, container.size // LEAST_BYTES
    by_index = {track.stream.index: track for track in tracks}
    streams = [*(track.stream for track in tracks), *container.streams.audio]
    try:
        for count, packet in enumerate(container.demux(streams)):
            end_s = max(end_s, _end_s(packet))
            if packet.size and packet.stream_index in by_index:
                by_index[packet.stream_index].take(packet)
                pictures += 1
            if count > room or pictures > MOST_PICTURES:
                raise TooManyPackets(min(room, MOST_PICTURES))
    except MemoryError:  # PyAV's is an FFmpegError too
        raise
    except av.FFmpegError as error:
        return end_s, error.strerror or str(error)
    return end_s, None


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


def _decoded(stream: VideoStream, packet: Packet[Any] | None) -> Iterator[VideoFrame]:
    """The frames that the decoder gives for a packet; for None those that it still holds back."""
    with suppress(av.FFmpegError):
        yield from stream.decode(packet)


def stream_facts(track: Track) -> dict[str, Any]:
    """Size, shape of a pixel, orientation and colour; from the first frame, or from the header without one."""
    stream, frame = track.stream, track.frame
    source = stream.codec_context if frame is None else frame
    aspect = stream.sample_aspect_ratio
    return {
        "codec": stream.codec_context.name,
        "stream_index": stream.index,
        "first_decoded": None if frame is None else frame.opaque,
        "encrypted": track.encrypted,
        "reordered": bool(stream.codec_context.has_b_frames),
        "time_base": str(Fraction(stream.time_base or 1)),
        "width": source.width,
        "height": source.height,
        "aspect": str(aspect) if aspect else None,
        "matrix": display_matrix(frame),
        "interlaced": bool(frame is not None and frame.interlaced_frame),
        "rate": str(stream.guessed_rate) if stream.guessed_rate else None,
        "rgb": bool(frame is not None and frame.format.is_rgb),
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


def container_crops(container: InputContainer) -> dict[int, list[int]]:
    """What the container cuts off the pictures of each stream, in pixels: left, right, top, bottom. PyAV tells it in
    FFmpeg's description of the file only."""
    av.logging.set_level(av.logging.INFO)
    description = container.dumps_format()  # type: ignore[attr-defined] # PyAV's types leave it out
    av.logging.set_level(av.logging.ERROR)
    streams = re.split(r"^  Stream #0:(?=\d)", description, flags=re.MULTILINE)[1:]
    crops = ((int(re.match(r"\d+", text)[0]), CROPPING.search(text)) for text in streams)  # type: ignore[index]
    return {index: [int(edge) for edge in crop.groups()] for index, crop in crops if crop is not None}


def container_facts(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    """What the header claims, and the earliest time of any picture or sound."""
    streams = (*container.streams.audio, stream)
    starts = [s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base is not None]
    return {
        "format": container.format.name,
        "others": len(container.streams) - len(container.streams.audio) - len(container.streams.video),
        "earliest": str(min(starts)) if starts else None,
        "claim_s": container.duration / av.time_base if container.duration else None,
        "stream_claim_s": float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None,
    }


if __name__ == "__main__":
    main(*sys.argv[1:3])
