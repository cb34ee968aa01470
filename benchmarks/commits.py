"""What a commit costs in a run that makes thousands of them, and what a run costs in which nothing is new.

    python -m benchmarks.commits [--videos 10000] [--commits 2000] [--block 200] [--failures] [--folder DIR]
    python -m benchmarks.commits --unchanged 100000

The first makes a library of ``--videos`` videos in bulk, then commits (or records failures of) others one by one as a
run does, and prints a row for each block: CPU milliseconds for one, memory, bytes and files of the tables. The second
makes small files, a library that has them all, and runs `tempo index` over them twice: ``--plan``, and to its end.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from subprocess import PIPE, run

import numpy as np
import pyarrow as pa

from benchmarks.tables import table
from flows.embedded import EMBEDDED_ID
from flows.models import ModelChoice, identify_model
from flows.run.discovery import find_sources
from storage import Library, Part, Source, StagedContent, StagedVideo, VideoFacts, VideoRecord, Writer, open_library
from storage.generations import new_generation, part_path
from storage.manifest import read_manifest, write_manifest
from storage.records import FeatureArray, ModelRecord, SegmentRecord, StateSlice
from storage.schemas import CATALOG, CATALOG_SCHEMA, segment_rows, segments_table, video_row
from tempo_core.fingerprints import Fingerprints, fingerprints
from tempo_core.sampling import sample_frames, segment_spans
from tempo_core.spec import PAPER, FrameGeometry

FEATURES, SEGMENTS = 256, 10
MODEL = fingerprints(PAPER, FrameGeometry(), "vision", "text", "suffix")
SPANS = segment_spans(sample_frames(Fraction(SEGMENTS * 4), PAPER), PAPER)
BULK = 10_000  # rows of one append
FACTS = VideoFacts(duration_s=SEGMENTS * 4.0, width=640, height=360, model_id="embedded", spec=PAPER)


def main() -> None:
    """Build a library, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000, help="in the library beforehand")
    parser.add_argument("--commits", type=int, default=2_000)
    parser.add_argument("--block", type=int, default=200)
    parser.add_argument("--failures", action="store_true", help="record failures instead of commits")
    parser.add_argument("--unchanged", type=int, default=0, metavar="FILES")
    parser.add_argument("--folder", type=Path, help="where the library is made (default: the temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.unchanged:
            run_unchanged(Path(folder), options.unchanged)
            return
        library = open_library(str(Path(folder, "library")), create=True)
        fill(library, [Source(f"/archive/{number}.mp4", number, "1") for number in range(options.videos)], MODEL)
        measure = record_failures if options.failures else commit_videos
        print(table(["number", "CPU ms each", "ms each", "memory MB", "tables MB", "files"], []))
        for row in measure(library, options.commits, options.block):
            print(f"| {' | '.join(row)} |", flush=True)


def fill(library: Library, sources: list[Source], model: Fingerprints) -> None:
    """Put videos into the tables in bulk: their rows are as a writer makes them, their parts do not exist."""
    rng = np.random.default_rng(0)
    library.tables.ensure(CATALOG)
    for first in range(0, len(sources), BULK):
        records = [record_of(source, new_generation(), model) for source in sources[first : first + BULK]]
        segments = [segment for record in records for segment in segments_of(record.video_id, record.generation)]
        vectors = rng.normal(size=(len(segments), FEATURES)).astype(np.float32)
        library.tables.add(segments_table(model.features), segment_rows(segments, vectors, FACTS.start_s))
        rows = pa.Table.from_pylist([video_row(record) for record in records], schema=CATALOG_SCHEMA)
        library.tables.add(CATALOG, rows)
    if sources:
        listed = ModelRecord(model, FACTS.model_id, FACTS.spec)
        write_manifest(library.store, replace(read_manifest(library.store), default=model.features, models=(listed,)))
        with library.writer() as writer:
            writer.optimize()


def record_of(source: Source, generation: str, model: Fingerprints) -> VideoRecord:
    """The catalog's record of a made-up video; its id is the hash of its address."""
    video_id = hashlib.sha256(source.uri.encode()).hexdigest()
    frames = Part(part_path("frames", video_id, model.frames, generation), video_id, 1000)
    states = Part(part_path("states", video_id, model.states, generation), video_id, 1000)
    return VideoRecord(source, video_id, generation, model, FACTS, frames, states, SEGMENTS, SEGMENTS * 8, time.time())


def segments_of(video_id: str, generation: str) -> list[SegmentRecord]:
    """Rows of a made-up video's segments."""
    slices = StateSlice(0, 1000, 0, 1, 10, 100, (1, 4, 10))
    return [SegmentRecord(video_id, generation, span, slices) for span in SPANS]


def commit_videos(library: Library, count: int, block: int) -> Iterator[list[str]]:
    """Look a content up, commit it with its segments: what a run does for each new video, less its pictures."""
    vectors = np.random.default_rng(1).normal(size=(SEGMENTS, FEATURES)).astype(np.float32)
    with library.writer() as writer:

        def commit(number: int) -> None:
            record = record_of(Source(f"/new/{number}.mp4", number, "1"), new_generation(), MODEL)
            writer.find_content(record.video_id, MODEL)
            writer.commit(StagedVideo(staged(record, vectors), record.source, FACTS))
            writer.find_content(record.video_id, MODEL)

        yield from _blocks(library, commit, count, block)
        yield _end(library, writer)


def staged(record: VideoRecord, vectors: FeatureArray) -> StagedContent:
    """The same video as its worker hands it over."""
    parts = record.frames_part, record.states_part
    return StagedContent(
        record.video_id,
        record.generation,
        record.fingerprints,
        *parts,
        segments_of(record.video_id, record.generation),
        vectors,
        record.frame_count,
    )


def record_failures(library: Library, count: int, block: int) -> Iterator[list[str]]:
    """Record failures of sources that were never seen before."""
    with library.writer() as writer:

        def fail(number: int) -> None:
            writer.record_failure(Source(f"/broken/{number}.mp4", number, "1"), MODEL.features, "no video", "decode")

        yield from _blocks(library, fail, count, block)
        yield _end(library, writer)


def run_unchanged(folder: Path, count: int) -> None:
    """Index files that a library has already, each way in a process of its own."""
    archive, uri = folder / "archive", str(folder / "library")
    for number in range(count):
        file = archive / f"{number // 1000}" / f"{number}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    model = identify_model(ModelChoice(EMBEDDED_ID))
    sources = find_sources([str(archive)]).sources
    fill(open_library(uri, create=True), list(sources), model.fingerprints(PAPER))
    rows = []
    for way in ("plan_only", "run"):
        code = _UNCHANGED.format(sources=[str(archive)], library=uri, way=way)
        rows.append(
            [
                f"{way}, {count} files",
                *run([sys.executable, "-c", code], check=True, stdout=PIPE).stdout.decode().split(),
            ]
        )
    print(table(["", "CPU s", "memory MB", "torch"], rows))


_UNCHANGED = """
import re, sys, time
from flows.reporter import Reporter
from flows.request import IndexRequest
from flows.run.indexing import IndexRun
run = IndexRun(IndexRequest(sources={sources!r}, library={library!r}, settle_s=0.0), Reporter())
run.{way}()
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(f"{{time.process_time():.1f}}", int(peak) // 1024, "loaded" if "torch" in sys.modules else "-")
"""


def _blocks(library: Library, work: Callable[[int], None], count: int, block: int) -> Iterator[list[str]]:
    for first in range(0, count, block):
        began, began_cpu = time.perf_counter(), time.process_time()
        for number in range(first, first + block):
            work(number)
        took, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        yield [f"{first}-{first + block}", f"{cpu / block * 1e3:.1f}", f"{took / block * 1e3:.1f}", *_sizes(library)]


def _end(library: Library, writer: Writer) -> list[str]:
    began, began_cpu = time.perf_counter(), time.process_time()
    writer.optimize()
    took, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    return ["the end", f"{cpu * 1e3:.0f}", f"{took * 1e3:.0f}", *_sizes(library)]


def _sizes(library: Library) -> list[str]:
    """Peak memory, bytes and files of the tables."""
    files = list(library.store.files("tables"))
    return [str(_peak_mb()), f"{sum(file.size for file in files) / 1e6:.0f}", str(len(files))]


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
