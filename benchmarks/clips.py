"""Many short clips: ``tempo index`` over them, in one process and on Ray, beside a loop of bare ffmpeg over the files.

    python -m benchmarks.clips --clips 200 --seconds 2

The loop decodes each clip to raw pictures of the size and rate that the index takes, one ffmpeg after the other, and
drops them. What it does not do is told apart: the start (a run over one clip), and the model (its encoder alone, on the
frames that were kept). The rest over the loop says what a clip costs beyond its decoding: the hash, the packet scan,
JPEG, parts and rows, the commit.

CPU seconds are those of all processes that were waited for. Ray's raylet lets the kernel discard those of its own
children, so of a run on Ray only the time on the clock is told.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flows.embedded import EMBEDDED_ID
from flows.models import ModelChoice, open_model
from flows.video.encoder import Encoder
from storage import open_library
from tempo_core.decoding import find_ffmpeg
from tempo_core.pixels import decode_jpeg, patchify
from tempo_core.values import SegmentPixels

DEADLINE_S = 3600
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True)
class Cost:
    """What a run took: seconds on the clock, and of CPU in all its processes."""

    wall_s: float
    cpu_s: float

    def less(self, other: Cost) -> Cost:
        return Cost(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)


def make_clips(folder: Path, count: int, seconds: float, size: str) -> list[Path]:
    """``count`` H.264 clips, each another content."""
    paths = [folder / f"clip-{number:04}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        source = f"testsrc2=size={size}:rate=25:duration={seconds},hue=h={number * 360 / count}"
        command = [find_ffmpeg(), *"-hide_banner -nostdin -loglevel error -y -f lavfi -i".split(), source]
        subprocess.run(
            [*command, *"-c:v libx264 -preset veryfast -pix_fmt yuv420p".split(), str(path)],
            check=True,
            timeout=DEADLINE_S,
        )
        os.utime(path, (time.time() - 7200,) * 2)
    return paths


def loop_command(clips: Sequence[Path]) -> list[str]:
    """A shell that runs ffmpeg over the clips, one after the other."""
    decode = f'"{find_ffmpeg()}" -hide_banner -nostdin -loglevel error -i "$clip" -vf fps=2 -f rawvideo -pix_fmt rgb24'
    return ["/bin/sh", "-c", f"for clip; do {decode} - >/dev/null; done", "loop", *map(str, clips)]


def index_command(clips: Path, library: Path, ray: str) -> list[str]:
    """``tempo index`` with the embedded model."""
    options = ["--library", str(library), "--ray", ray, "--settle", "0", "--json"]
    return [sys.executable, "-m", "flows.cli", "index", str(clips), *options]


def cost_of(command: Sequence[str]) -> Cost:
    """Runs the command to its end, and waits for the end of what it left behind, as Ray's own processes."""
    before, began = os.times(), time.monotonic()
    subprocess.run(command, check=True, timeout=DEADLINE_S, stdout=subprocess.DEVNULL)
    wall_s = time.monotonic() - began
    with suppress(ChildProcessError):
        while time.monotonic() < began + DEADLINE_S:
            os.wait()
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall_s, cpu_s)


def model_cost(library: Path) -> Cost:
    """The embedded model alone, on the frames of each video of a library, one video after the other as they came."""
    opened, checkpoint = open_library(str(library)), open_model(ModelChoice(EMBEDDED_ID))
    records = opened.videos()
    chunks = []
    for record in records:
        spans = [segment.span for segment in opened.segments(record)]
        frames = (patchify(decode_jpeg(jpegs)) for _, jpegs, _ in opened.read_frames(record))
        chunks.append([SegmentPixels(*one, span.pair_times_s) for one, span in zip(frames, spans, strict=True)])
    with Encoder(checkpoint, records[0].facts.spec.state_dtype) as encoder:
        encoder.submit(chunks[0]).result()
        wall_s, cpu_s = time.monotonic(), time.process_time()
        for chunk in chunks:
            encoder.submit(chunk).result()
        return Cost(time.monotonic() - wall_s, time.process_time() - cpu_s)


def adopt_orphans() -> None:
    """Processes whose parent ended become this one's children, so that their CPU seconds are counted (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def main() -> None:
    """Prints one JSON object per way, with its ratios to the loop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--ray", nargs="*", default=["off", "local"], help="ways to run: off, local")
    arguments = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clips").mkdir()
        clips = make_clips(folder / "clips", arguments.clips, arguments.seconds, arguments.size)
        loop = cost_of(loop_command(clips))
        show("loop", loop, loop)
        for ray in arguments.ray:
            start = cost_of(index_command(clips[0], folder / f"one-{ray}", ray))
            show(f"--ray {ray}, one clip", start, loop, ray)
            library = folder / f"library-{ray}"
            whole = cost_of(index_command(folder / "clips", library, ray))
            show(f"--ray {ray}", whole, loop, ray)
            if ray == "off":
                model = model_cost(library)
                show("the model alone", model, loop)
                show("--ray off, the rest", whole.less(start).less(model), loop)


def show(way: str, cost: Cost, loop: Cost, ray: str = "off") -> None:
    """One line."""
    told = {"way": way, "wall_s": round(cost.wall_s, 2), "wall_ratio": round(cost.wall_s / loop.wall_s, 2)}
    if ray == "off":
        told |= {"cpu_s": round(cost.cpu_s, 2), "cpu_ratio": round(cost.cpu_s / loop.cpu_s, 2)}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
