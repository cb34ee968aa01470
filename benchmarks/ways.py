"""The ways in which a run is measured (``benchmarks/index.py``): its floors, our decoding alone, the run itself."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.floors import BATCH_SEGMENTS, Floor, Prepared, decode_s, encode_s, frames_in_memory
from flows.models import choose_models
from flows.on_ray.actor import WorkerSetup
from flows.on_ray.cluster import ActorPool, open_actors
from flows.reporter import Reporter
from flows.request import IndexRequest
from flows.run.discovery import find_sources
from flows.run.dispatch import Dispatch
from flows.run.indexing import IndexRun
from flows.run.monitor import Monitor
from flows.run.plan import Known, make_plan
from flows.run.settle import Settler
from flows.video.source_frames import DecodeSettings, decoded_items
from storage import open_library
from tempo_core import IndexSpec
from tempo_core.tempo_checkpoint import TempoCheckpoint

Row = dict[str, object]


@dataclass(frozen=True)
class Bench:
    """What all cases share. ``emit`` takes each row as it is there."""

    work: Path
    model: str
    checkpoint: TempoCheckpoint
    spec: IndexSpec
    batches: int
    emit: Callable[[Row], None]


@dataclass(frozen=True)
class Case:
    """``repeats``: for each, the videos of one run."""

    name: str
    repeats: Sequence[Sequence[Path]]

    @property
    def videos(self) -> int:
        """Of one run."""
        return len(self.repeats[0])


def measure(case: Case, bench: Bench, on_ray: bool) -> None:
    """All ways of all repeats, by turns."""
    library = str(bench.work / f"ray-{case.name}")
    with ExitStack() as stack:
        pool = None
        if on_ray:
            begin = time.perf_counter()
            pool = stack.enter_context(_actors(case, bench, library))
            bench.emit({"case": case.name, "way": "ray start", "seconds": time.perf_counter() - begin})
        for repeat, videos in enumerate(case.repeats):
            for row in _ways(videos, bench, pool, library):
                bench.emit({"case": case.name, "repeat": repeat, **row})


def _actors(case: Case, bench: Bench, library: str) -> AbstractContextManager[ActorPool]:
    prints = bench.checkpoint.fingerprints(bench.spec)
    open_library(library, create=True)
    setup = WorkerSetup(choose_models(bench.model, None, None), library, bench.spec, "states", prints)
    sources = [str(path) for videos in case.repeats for path in videos]
    return open_actors(None, setup, case.videos, sources)


def _ways(videos: Sequence[Path], bench: Bench, pool: ActorPool | None, library: str) -> Iterator[Row]:
    prepared = [Floor(path, bench.spec, bench.checkpoint.geometry).prepared() for path in videos]
    whole: Row = {"video_s": sum(one.duration_s for one in prepared), "segments": sum(one.segments for one in prepared)}
    for row in [*_decode_floors(prepared), _encode_floor(prepared, bench)]:
        yield row | whole
    yield _timed("stream", lambda: _stream(videos, bench)) | whole
    yield _in_process(videos, bench) | whole
    if pool is not None:
        yield _on_ray(videos, bench, pool, library) | whole


def _timed(way: str, work: Callable[[], object]) -> Row:
    begin = time.perf_counter()
    work()
    return {"way": way, "seconds": time.perf_counter() - begin}


def _decode_floors(prepared: Sequence[Prepared]) -> list[Row]:
    cores = os.cpu_count() or 1
    ways: list[tuple[int, int | None]] = [(1, None)]
    if len(prepared) > 1:
        ways += [(cores // threads, threads) for threads in (1, 2, 4) if cores // threads > 1]
    return [
        _timed("decode", partial(decode_s, prepared, *way)) | {"at_a_time": way[0], "threads": way[1]} for way in ways
    ]


def _encode_floor(prepared: Sequence[Prepared], bench: Bench) -> Row:
    pixels = frames_in_memory(BATCH_SEGMENTS, prepared[0].size, bench.spec.segment_frames)
    segment_s = encode_s(bench.checkpoint, bench.spec, pixels, bench.batches) / BATCH_SEGMENTS
    return {"way": "encode", "seconds": segment_s * sum(one.segments for one in prepared)}


def _stream(videos: Sequence[Path], bench: Bench) -> None:
    for path in videos:
        for _ in decoded_items(str(path), DecodeSettings(bench.spec, bench.checkpoint.geometry)):
            pass


def _in_process(videos: Sequence[Path], bench: Bench) -> Row:
    with tempfile.TemporaryDirectory(dir=bench.work, prefix="library-") as library:
        request = IndexRequest(sources=[str(path) for path in videos], library=library, spec=bench.spec.name)
        begin = time.perf_counter()
        report = IndexRun(request, Reporter(), bench.checkpoint).run()
        seconds = time.perf_counter() - begin
    _expect_indexed(report.summary.counts["indexed"], videos)
    return {"way": "process", "seconds": seconds, "spent": asdict(report.spent)}


def _on_ray(videos: Sequence[Path], bench: Bench, pool: ActorPool, uri: str) -> Row:
    """As ``IndexRun`` does it, with a pool that is up."""
    prints = bench.checkpoint.fingerprints(bench.spec)
    with open_library(uri).writer() as writer:
        begin = time.perf_counter()
        found = find_sources([str(path) for path in videos], settle_s=0.0)
        plan = make_plan(found, Known([], [], prints.features))
        monitor = Monitor(len(plan.tasks), sum(task.source.size for task in plan.tasks))
        results = list(Dispatch(pool, Settler(writer, prints), monitor).results(plan))
        seconds = time.perf_counter() - begin
    _expect_indexed(sum(result.status == "indexed" for result in results), videos)
    shares = [snapshot.encoder_share for snapshot in monitor.kept]
    return {
        "way": "ray",
        "seconds": seconds,
        "spent": asdict(monitor.kept[-1].spent),
        "encoder_share": statistics.mean(shares) if shares else 0.0,
        "slots": pool.slots,
    }


def _expect_indexed(indexed: int, videos: Sequence[Path]) -> None:
    if indexed != len(videos):
        raise SystemExit(f"{indexed} of {len(videos)} videos were indexed: the times would mean nothing")
