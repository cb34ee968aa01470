"""A script as a real video file: H.264 in MP4, four frames a second, two of every four being the sampled ones.

Scenes are rendered and piped one at a time, so memory stays bounded whatever the video's length.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from nano.render import batch_scenes, render
from nano.world import SEGMENT_FRAMES, Scene, Script
from tempo_core.decoding import find_ffmpeg
from tempo_core.errors import VideoError

FILE_EDGE = 192  # pixels: larger than what the model sees, so that frames are resized as a real video's are
FRAMES_PER_S = 4
_DRAWN = 2 * SEGMENT_FRAMES  # frames of a scene; every second one is sampled
_LEAST_DEADLINE_S, _DEADLINE_S_PER_SCENE = 60.0, 5.0
_KEY_FRAMES = 32  # a key frame at least every 8 s
_TO_BT709 = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int,format=yuv420p"
_SAID = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv".split()


def write_video(script: Script, path: Path, edge: int = FILE_EDGE) -> Path:
    """Write ``script`` as an MP4 of ``edge`` x ``edge`` pixels; returns ``path``, which appears whole or not at all,
    whoever makes the same file meanwhile.

    The same script gives the same bytes with the same ffmpeg. VideoError where ffmpeg fails or takes too long;
    ValueError where a scene is no whole number of 4 s, or the edge is odd.
    """
    if script.scene_s < 1 or script.scene_s * FRAMES_PER_S % _DRAWN or edge % 2:
        raise ValueError(f"scenes of {script.scene_s} s at {edge} pixels: take multiples of 4 s and an even edge")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        _encode(script, part, edge)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _encode(script: Script, part: Path, edge: int) -> None:
    deadline_s = _LEAST_DEADLINE_S + _DEADLINE_S_PER_SCENE * len(script.scenes)
    late = threading.Event()
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would fill and stop ffmpeg
        with subprocess.Popen(_command(part, edge), stdin=subprocess.PIPE, stdout=said, stderr=said) as process:
            clock = threading.Timer(deadline_s, _stop, (process, late))
            clock.start()
            try:
                _feed(script, process.stdin, edge)
                process.wait()
            finally:
                clock.cancel()
                process.kill()  # harmless once it has ended
        if late.is_set():
            raise VideoError(f"ffmpeg took over {deadline_s:.0f} s to make {part.name}")
        if process.returncode:
            said.seek(0)
            reason = said.read().decode(errors="replace").strip()[-300:]
            raise VideoError(f"ffmpeg could not make {part.name}: {reason}")


def _stop(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    process.kill()


def _feed(script: Script, pipe: IO[bytes] | None, edge: int) -> None:
    """All frames in order. A pipe that breaks means that ffmpeg has ended: its exit status tells why."""
    assert pipe is not None
    try:
        for frame in _frames(script, edge):
            pipe.write(frame)
        pipe.close()
    except BrokenPipeError:
        return


def _frames(script: Script, edge: int) -> Iterator[bytes]:
    """RGB bytes of every frame of the file; in long scenes each drawn frame is held."""
    held = script.scene_s * FRAMES_PER_S // _DRAWN
    for scene in script.scenes:
        for frame in _drawn(scene, edge):
            yield frame * held


def _drawn(scene: Scene, edge: int) -> list[bytes]:
    moments = torch.arange(_DRAWN, dtype=torch.float32)[None] * SEGMENT_FRAMES / _DRAWN
    pictures = (render(batch_scenes([scene]), moments, edge)[0] * 255).round().to(torch.uint8)
    return [picture.numpy().tobytes() for picture in pictures]


def _command(part: Path, edge: int) -> list[str]:
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{edge}x{edge}", "-framerate", str(FRAMES_PER_S)]
    # A fixed number of threads: x264 decides otherwise with more of them, and the bytes would depend on the machine.
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "16", "-g", str(_KEY_FRAMES), "-threads", "2"]
    plain = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"]
    begin = [find_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y", *raw, "-i", "pipe:0"]
    return [*begin, "-vf", _TO_BT709, *coding, *_SAID, *plain, "-f", "mp4", str(part)]
