"""Raw frames with their presentation times, read back from ffmpeg's pipe (NUT, demuxed by PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from tempo_core.decoding.child import Child
from tempo_core.decoding.clock import origin
from tempo_core.decoding.video import VideoInfo
from tempo_core.values import ByteArray

_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class TimedFrame:
    """``pixels``: uint8 [height, width, 3]; ``tick``: when it is shown, in the file's time base."""

    pixels: ByteArray
    tick: int
    time_s: Fraction


class _Pipe:
    """What PyAV reads from: the child's output, with its deadlines.

    An error that is raised here passes through PyAV. An interrupt would not: it is no Exception, and PyAV would print
    and lose it. So it is kept, PyAV is given the end of the file, and it is raised once PyAV is done.
    """

    def __init__(self, child: Child) -> None:
        self._child = child
        self._stop: BaseException | None = None

    def read(self, size: int) -> bytes:
        if self._stop is not None:
            return b""
        try:
            return self._child.read(size)
        except BaseException as stop:
            if not isinstance(stop, Exception):  # KeyboardInterrupt, or Prefect's TerminationSignal
                self._stop = stop
                return b""
            raise

    def raise_if_stopped(self) -> None:
        if self._stop is not None:
            raise self._stop


def timed_frames(child: Child, info: VideoInfo, size: tuple[int, int]) -> Iterator[TimedFrame]:
    """Every frame that ffmpeg wrote, in presentation order, from the first frame that the file shows.

    Nothing where ffmpeg wrote nothing. DecodeTimeout from the child's deadlines.
    """
    width, height = size
    begin, tolerance = origin(info), max(1, info.typical_gap // 4)
    for packet in _packets(child):
        if packet.pts is None or packet.size != width * height * 3:  # the empty packet at the end
            continue
        tick = _tick(round(packet.pts * packet.time_base / info.time_base) + begin, info, tolerance)
        if tick is not None:
            pixels = np.frombuffer(memoryview(packet), np.uint8).reshape(height, width, 3)
            yield TimedFrame(pixels, tick, (tick - int(info.ticks[0])) * info.time_base)


def _packets(child: Child) -> Iterator[Packet[VideoStream]]:
    pipe = _Pipe(child)
    try:
        container = av.open(pipe, mode="r", format="nut", buffer_size=_BUFFER_BYTES, metadata_errors="replace")
    except av.FFmpegError:  # no header: ffmpeg ended before the first frame
        pipe.raise_if_stopped()
        return
    with container:
        yield from container.demux(container.streams.video[0])
    pipe.raise_if_stopped()


def _tick(pts: int, info: VideoInfo, tolerance: int) -> int | None:
    """The probe's tick for the time that ffmpeg gave a frame (two versions may round differently).

    None for a frame that the probe does not count: pre-roll, or a damaged time.
    """
    ticks = info.ticks
    after = int(np.searchsorted(ticks, pts))
    nearest = min(ticks[max(0, after - 1) : after + 1].tolist(), key=lambda tick: abs(tick - pts))
    return int(nearest) if abs(nearest - pts) <= tolerance else None
