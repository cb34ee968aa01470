"""Real video files for tests, made with ffmpeg; each frame carries its own number, so that a test can read it back.

The picture of a numbered video is a row of black and white bars, one per bit of the frame's number, the lowest bit at
the left: ``frame_number`` reads it from decoded pixels of any size, whatever the codec did to them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pytest

from tempo_core.decoding import VideoInfo, find_ffmpeg, probe, read_segments
from tempo_core.errors import VideoError
from tempo_core.spec import PAPER, FrameGeometry, IndexSpec
from tempo_core.values import ByteArray

BITS = 10
ROUNDING_S = 0.002
MAKING_DEADLINE_S = 120
_QUIET = {"libx265": ["-x265-params", "log-level=error"], "libsvtav1": ["-svtav1-params", "lp=2"]}
_FAST = {
    "libx264": ["-preset", "veryfast"],
    "libx265": ["-preset", "ultrafast"],
    "libvpx-vp9": ["-deadline", "realtime", "-cpu-used", "8"],
    "libsvtav1": ["-preset", "12"],
    "libaom-av1": ["-usage", "realtime", "-cpu-used", "8"],
    "mpeg4": ["-q:v", "3"],
    "mpeg2video": ["-q:v", "3"],
}


def make_video(
    path: Path,
    *,
    seconds: float = 2,
    frames: int | None = None,
    size: tuple[int, int] = (320, 180),
    rate: str = "25",
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: str | None = None,
    filters: str | None = None,
    options: Sequence[str] = (),
) -> Path:
    """A numbered video at ``path``; the container follows from its suffix. Returns ``path``.

    ``frames`` overrides ``seconds``. ``times``: an ffmpeg expression for each frame's time in seconds from its number
    N, for a variable frame rate. ``filters``: appended to the filter chain. ``options``: output options, last.
    Equal arguments give equal bytes: each video is made once per process.
    """
    count = frames if frames is not None else round(seconds * Fraction(rate))
    chain = [numbered_picture(count, size, rate)]
    timing: list[str] = []
    if times is not None:
        chain += ["settb=1/90000", f"setpts='round(({times})*90000)'"]
        timing = ["-fps_mode", "passthrough", "-enc_time_base", "1:90000"]
    if filters is not None:
        chain.append(filters)
    source = ["-f", "lavfi", "-i", ",".join(chain)]
    coding = ["-c:v", codec, *_FAST.get(codec, []), *_QUIET.get(codec, []), "-pix_fmt", pix_fmt, *timing]
    path.write_bytes(_made_by_ffmpeg(path.suffix, (*source, *coding, *options)))
    return path


@lru_cache(maxsize=128)
def _made_by_ffmpeg(suffix: str, arguments: tuple[str, ...]) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"video{suffix}"
        run_ffmpeg(*arguments, str(path))
        return path.read_bytes()


def numbered_picture(count: int, size: tuple[int, int], rate: str = "25") -> str:
    """A lavfi source of ``count`` numbered frames."""
    bit = "mod(floor(N/pow(2,X)),2)"
    bars = f"color=black:size={BITS}x2:rate={rate},format=gray,geq=lum='255*{bit}',trim=end_frame={count}"
    return f"{bars},scale={size[0]}:{size[1]}:flags=neighbor,format=yuv420p,setsar=1"


def damage_packets(path: Path, numbers: list[int]) -> None:
    """Overwrite whole pictures, so that no decoder can make anything of them. The container stays sound."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for number in numbers:
        at = content.index(packets[number])
        content[at : at + len(packets[number])] = b"\xff" * len(packets[number])
    path.write_bytes(content)


def retimed(path: Path, made: Path, times: Sequence[int], last_ms: int = 40) -> Path:
    """The pictures of ``made`` at ``path``, where the k-th that is shown is given ``times[k]`` (milliseconds), the
    last for ``last_ms``, and decoding times that ascend before them. Returns ``path``."""
    with av.open(str(made)) as source, av.open(str(path), "w") as target:
        packets = [packet for packet in source.demux(video=0) if packet.size]
        ranks = {pts: rank for rank, pts in enumerate(sorted(packet.pts or 0 for packet in packets))}
        stream = target.add_stream_from_template(source.streams.video[0])
        delay = max(times[k] - times[ranks[packet.pts or 0]] for k, packet in enumerate(packets))
        for dts, packet in zip(sorted(times), packets, strict=True):
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts, packet.dts = times[ranks[packet.pts or 0]], dts - max(0, delay)
            packet.duration = min((time - packet.pts for time in times if time > packet.pts), default=last_ms)
            target.mux(packet)
    return path


def frame_number(pixels: ByteArray) -> int:
    """The number that a decoded frame, uint8 [height, width, 3], carries."""
    height, width, _ = pixels.shape
    middle = pixels[height // 4 : -(height // 4)].mean(axis=(0, 2))
    centres = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    return int(((middle[centres] > 127) << np.arange(BITS)).sum())


def run_ffmpeg(*arguments: str) -> None:
    """ffmpeg with these arguments, overwriting; AssertionError with its messages where it fails."""
    command = [find_ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAKING_DEADLINE_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"


def frames_shown(path: Path, spec: IndexSpec = PAPER, info: VideoInfo | None = None) -> list[tuple[float, int]]:
    """For each sample of ``path``: the time that its frame claims, and the number that its picture carries."""
    reader = read_segments(path, info or probe(path), spec, FrameGeometry())
    shown = [pair for segment in reader for pair in zip(segment.times_s, segment.pixels, strict=True)]
    return [(time_s, frame_number(pixels)) for time_s, pixels in shown]


def assert_shows_its_times(path: Path, frame_times_s: Sequence[float], spec: IndexSpec = PAPER) -> VideoInfo:
    """Each sample's picture is the last frame at or before the sample's time, and claims that frame's time.

    ``frame_times_s``: when each frame is shown, by construction, from 0. 2 ms are left to containers that round.
    Returns what the probe found.
    """
    info = probe(path)
    sampling, shown = info.sampling(spec), frames_shown(path, spec, info)
    assert len(shown) == sampling.count
    for index, (claimed_s, number) in enumerate(shown):
        due_s = float(sampling.time_s(index))
        following = [*frame_times_s[number + 1 :], float("inf")]
        assert frame_times_s[number] - ROUNDING_S <= due_s <= following[0] + ROUNDING_S, (index, due_s, number)
        assert abs(claimed_s - frame_times_s[number]) <= ROUNDING_S, (index, claimed_s, number)
    return info


def indexed(path: Path) -> tuple[VideoInfo, list[int], tuple[str, ...]]:
    """What an index would hold: the probe, the frames' numbers, and all warnings."""
    info = probe(path)
    reader = read_segments(path, info, PAPER, FrameGeometry())
    numbers = [frame_number(pixels) for segment in reader for pixels in segment.pixels]
    assert len(numbers) == info.sampling(PAPER).count
    return info, numbers, info.warnings + reader.warnings


def refusal(path: Path) -> str:
    """The reason for which the file is refused, by the probe or by the reader."""
    with pytest.raises(VideoError) as caught:
        list(read_segments(path, probe(path), PAPER, FrameGeometry()))
    return str(caught.value)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
