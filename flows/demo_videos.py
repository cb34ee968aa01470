"""The demo's videos: moving pictures that ffmpeg draws by itself, no font and no network needed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tempo_core.errors import VideoError

DEADLINE_S = 120.0
_SIZE, _RATE = "320x180", 10


@dataclass(frozen=True)
class DemoVideo:
    """A video to make: its file name, ffmpeg's filter graph, and a question about it."""

    name: str
    graph: str
    question: str


def _cards(*colours: str, seconds: int) -> str:
    """Coloured cards one after the other, a white square crossing each."""
    parts, labels = [], ""
    for number, colour in enumerate(colours):
        square = f"color=white:s=40x40:r={_RATE}:d={seconds}[w{number}]"
        card = f"color={colour}:s={_SIZE}:r={_RATE}:d={seconds}[b{number}]"
        parts += [square, card, f"[b{number}][w{number}]overlay=x=t*{280 // seconds}:y=70:shortest=1[c{number}]"]
        labels += f"[c{number}]"
    return ";".join([*parts, f"{labels}concat=n={len(colours)}[out]"])


DEMO_VIDEOS = (
    DemoVideo("cards.mp4", _cards("red", "green", "blue", "black", seconds=7), "When does the picture turn green?"),
    DemoVideo("pattern.mp4", f"testsrc2=s={_SIZE}:r={_RATE}:d=24[out]", "Which colours move across the test picture?"),
    DemoVideo(
        "cells.mkv", f"life=s={_SIZE}:r={_RATE}:ratio=0.3:seed=7:mold=10,trim=duration=16[out]", "Do the cells die?"
    ),
)


def make_demo_videos(folder: Path) -> list[Path]:
    """The videos' files in ``folder``; those already there are kept. VideoError if ffmpeg cannot make one."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_make(video, folder / video.name) for video in DEMO_VIDEOS]


def _make(video: DemoVideo, path: Path) -> Path:
    from tempo_core.decoding import find_ffmpeg

    if path.exists():
        return path
    part = path.with_stem(f".{path.stem}-part")
    command = [find_ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-filter_complex", video.graph]
    command += ["-map", "[out]", "-c:v", "mpeg4", "-q:v", "3", "-pix_fmt", "yuv420p", str(part)]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    except subprocess.CalledProcessError as error:
        raise VideoError(f"ffmpeg could not make the demo's {path.name}: {error.stderr.strip()[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise VideoError(f"ffmpeg took over {DEADLINE_S:.0f} s to make the demo's {path.name}") from error
    part.replace(path)
    return path
