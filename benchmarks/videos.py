"""Videos for benchmarks: H.264 with motion in every frame, made once and cut or looped without encoding again."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tempo_core.decoding import find_ffmpeg

CONTENT_S = 300
_KEY_S = 2  # from key frame to key frame: where a cut may begin
_DEADLINE_S = 1800


def make_video(path: Path, seconds: int, size: str, noise: int = 12) -> None:
    """Five minutes of content are looped to the length."""
    content = path.with_name(f"once-{path.stem}.mp4")
    make_content(content, min(seconds, CONTENT_S), size, noise)
    loop_video(content, path, seconds)
    content.unlink()


def make_content(path: Path, seconds: int, size: str, noise: int) -> None:
    """25 frames/s, a key frame every 2 s. ``noise`` 5 makes 7 Mb/s of 1080p, 12 makes 57."""
    source = f"testsrc2=size={size}:rate=25,noise=alls={noise}:allf=t"
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-g", str(25 * _KEY_S), "-pix_fmt", "yuv420p"]
    _ffmpeg("-f", "lavfi", "-i", source, "-t", str(seconds), *coding, str(path))


def loop_video(content: Path, path: Path, seconds: int) -> None:
    """``content`` again and again, ``seconds`` long."""
    _ffmpeg("-stream_loop", "-1", "-i", str(content), "-t", str(seconds), "-c", "copy", str(path))


def cut_video(content: Path, path: Path, begin_s: int, seconds: int) -> None:
    """``seconds`` of ``content`` from the key frame at or before ``begin_s``."""
    _ffmpeg("-ss", str(begin_s), "-i", str(content), "-t", str(seconds), "-c", "copy", str(path))


def _ffmpeg(*arguments: str) -> None:
    subprocess.run([find_ffmpeg(), "-v", "error", "-nostdin", "-y", *arguments], check=True, timeout=_DEADLINE_S)
