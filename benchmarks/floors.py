"""What indexing cannot be faster than: ffmpeg that decodes the same way and writes nothing, and the model alone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tempo_core import Checkpoint, IndexSpec
from tempo_core.decoding import find_ffmpeg, probe
from tempo_core.decoding.due_frames import due_frames, select_expression
from tempo_core.decoding.graph import Pass, Source, command
from tempo_core.geometry import frame_size
from tempo_core.pixels import patchify
from tempo_core.sampling import segment_spans
from tempo_core.spec import FrameGeometry
from tempo_core.values import SegmentPixels

BATCH_SEGMENTS = 16  # as the encoder's (flows/video/encoder.py)
_DEADLINE_S = 1800


@dataclass(frozen=True)
class Floor:
    """A video's own: the command of bare ffmpeg, less its threads, and how many segments the model gets."""

    path: Path
    spec: IndexSpec
    geometry: FrameGeometry

    def prepared(self) -> Prepared:
        """What is known before the clock starts: bare ffmpeg needs no packet scan."""
        info = probe(self.path)
        sampling = info.sampling(self.spec)
        select = select_expression(info, due_frames(info, sampling))
        size = frame_size(info.width, info.height, self.geometry)
        commands = {
            threads: _to_null(command(find_ffmpeg(), Source(str(self.path), info, size, threads), Pass(select)))
            for threads in (None, 1, 2, 4)
        }
        return Prepared(commands, float(info.duration), len(segment_spans(sampling, self.spec)), size)


@dataclass(frozen=True)
class Prepared:
    """``commands``: by the number of threads. ``size``: width and height of the frames."""

    commands: dict[int | None, list[str]]
    duration_s: float
    segments: int
    size: tuple[int, int]


def _to_null(arguments: list[str]) -> list[str]:
    """The reader's own command: same selection, size and colours. What comes out is thrown away."""
    given = [*arguments[:-1], "-"]
    given[given.index("nut")] = "null"
    write_index = given.index("-write_index")  # no option of this format
    return given[:write_index] + given[write_index + 2 :]


def decode_s(videos: Sequence[Prepared], at_a_time: int, threads: int | None) -> float:
    """Seconds of bare ffmpeg for all, so many processes at a time."""

    def run(video: Prepared) -> None:
        subprocess.run(video.commands[threads], check=True, timeout=_DEADLINE_S, stdout=subprocess.DEVNULL)

    begin = time.perf_counter()
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(run, videos))
    return time.perf_counter() - begin


def frames_in_memory(segments: int, size: tuple[int, int], frames: int, seed: int = 0) -> list[SegmentPixels]:
    """Segments of noise, ready for the model."""
    numbers, (width, height) = np.random.default_rng(seed), size
    pictures = numbers.integers(0, 256, (frames, height, width, 3), np.uint8)
    times = tuple(float(pair) for pair in range(frames // 2))
    return [SegmentPixels(*patchify(np.roll(pictures, shift, axis=2)), times) for shift in range(segments)]


def encode(checkpoint: Checkpoint, spec: IndexSpec, pixels: Sequence[SegmentPixels]) -> None:
    """What the encoder does with a batch: states, prefixes, features."""
    compressor = checkpoint.router
    compressor.features(compressor.prefill(compressor.encode(pixels, state_dtype=spec.state_dtype)))


def encode_s(checkpoint: Checkpoint, spec: IndexSpec, pixels: Sequence[SegmentPixels], batches: int) -> float:
    """Seconds for one batch of ``pixels``, the mean over ``batches`` that are timed behind one that is not."""
    encode(checkpoint, spec, pixels)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(batches):
        encode(checkpoint, spec, pixels)  # its features are on the CPU when it returns
    return (time.perf_counter() - begin) / batches
