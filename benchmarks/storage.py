"""How fast a library gives its states back, against plain reads of the same file in the same run.

    python -m benchmarks.storage [--segments 64] [--folder DIR]

One video with segments of the full-size model (4 levels x 512 tokens x 2,048 bfloat16 numbers, 8.4 MB each), read from
the page cache: what is measured is the way through the library, not the disk. The best of several rounds counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from storage import Library, Part, Source, StagedVideo, VideoFacts, VideoRecord, open_library
from tempo_core.fingerprints import fingerprints
from tempo_core.sampling import SegmentSpan, sample_frames, segment_spans
from tempo_core.spec import PAPER, FrameGeometry
from tempo_core.values import SegmentState

LEVELS, TOKENS, HIDDEN, FEATURES = 4, 512, 2048, 2048
ROUNDS = 5
PRINTS = fingerprints(PAPER, FrameGeometry(), "vision", "text", "suffix")


def main() -> None:
    """Write one video, read it back in several ways, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="where the library is made (default: the temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        library = open_library(str(Path(folder, "library")), create=True)
        begun = time.perf_counter()
        record = write(library, options.segments)
        written_s = time.perf_counter() - begun
        size = states_part(record).size
        print(f"{options.segments} segments, {size / 1e9:.2f} GB; written and committed in {written_s:.1f} s")
        print(f"({size / written_s / 1e9:.2f} GB/s with making the data, hashing, reading back and fsync)\n")
        for name, seconds, count in measured(library, record):
            rate = f"{count / seconds / 1e9:8.2f} GB/s" if count else ""
            print(f"{name:<58} {seconds * 1000:9.2f} ms {rate}")


def write(library: Library, segments: int) -> VideoRecord:
    """One committed video of that many segments."""
    spans = segment_spans(sample_frames(Fraction(segments * 4), PAPER), PAPER)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (LEVELS, TOKENS, HIDDEN * 2), np.uint8)
    with library.writer() as writer, library.stage("ab" * 32, PRINTS) as video:
        for span in spans:
            rows[0, 0, :8] = span.index
            video.add_frames(span.index, [b"jpeg"] * span.count, [0.0] * span.count)
            video.add_state(SegmentState(rows, "bfloat16", (4, 16, 32), span.pair_times_s))
        video.add_features(features(spans), spans)
        facts = VideoFacts(duration_s=segments * 4.0, width=1920, height=1080, model_id="none", spec=PAPER)
        (record,) = writer.commit(StagedVideo(video.finish(), Source("/video.mp4", 1, "1"), facts))
        return record


def states_part(record: VideoRecord) -> Part:
    """The second of its parts."""
    return record.parts[1]


def features(spans: list[SegmentSpan]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Any vectors."""
    return np.random.default_rng(1).normal(size=(len(spans), FEATURES)).astype(np.float32)


def measured(library: Library, record: VideoRecord) -> list[tuple[str, float, int]]:
    """(what, seconds, bytes) of each way to read."""
    path, size = Path(library.uri, states_part(record).path), states_part(record).size
    segments = library.segments(record)
    one, total = segments[0].state.length, sum(segment.state.length for segment in segments)
    buffer = np.ones(size, np.uint8)
    vector = np.ones(FEATURES, np.float32)
    ways: list[tuple[str, Callable[[], object], int]] = [
        ("plain pread of the file, 1 thread, a buffer in use", lambda: pread(path, buffer), size),
        ("read_states, whole video", lambda: library.read_states(record, segments=segments), total),
        ("the same with its catalog and segment rows", lambda: library.read_states(library.videos()[0]), total),
        ("the same, checksums verified", lambda: library.read_states(library.videos()[0], verify=True), total),
        ("plain pread of one segment", lambda: pread(path, buffer[:one]), one),
        ("read_states, one segment", lambda: library.read_states(record, [9], segments=segments), one),
        ("catalog: videos()", library.videos, 0),
        ("segment rows: segments()", lambda: library.segments(record), 0),
        ("search, 10 of all segments", lambda: library.search(vector, limit=10), 0),
    ]
    return [(name, best(way), count) for name, way, count in ways]


def pread(path: Path, buffer: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """From the beginning of the file until the buffer is full."""
    descriptor = os.open(path, os.O_RDONLY)
    view, offset = buffer.data, 0
    while view:
        count = os.preadv(descriptor, [view], offset)
        view, offset = view[count:], offset + count
    os.close(descriptor)


def best(way: Callable[[], object]) -> float:
    """Seconds of the fastest round."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        way()
        taken.append(time.perf_counter() - begun)
    return min(taken)


if __name__ == "__main__":
    main()
