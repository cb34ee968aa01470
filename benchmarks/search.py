"""What a question costs as a library grows, beside bare LanceDB in the same process.

    python -m benchmarks.search --folder DIR [--videos 1000 10000 100000] [--features 256 1024]

Libraries of ten segments a video are made in DIR once and used again. Each line is the median over the questions: wall
clock, and in brackets the CPU seconds of all threads, which other load on the machine changes less. "Bare" asks the
same table for its 64 nearest rows. A cold process opens the library and searches once; its imports are not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from benchmarks.search_library import PRINTS, Vectors, folder, made_library, questions, uri, video_id
from benchmarks.tables import table
from serving.chat_server import ChatServer
from serving.engine import Engine
from serving.selection import Scope, asked_videos, select_segments
from storage import ALL_MODELS, Library, open_library
from storage.schemas import segments_table
from storage.search import REFINE_FACTOR
from tempo_core.checkpoint_parts import Checkpoint
from tempo_core.errors import UsageError

LIMIT, RECALL_AT = 64, 100
Seconds = tuple[float, float]


def main() -> None:
    """Make or open each library, measure, print one table for each size of the features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the libraries are kept")
    parser.add_argument("--videos", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--features", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--questions", type=int, default=15)
    parser.add_argument("--first", metavar="LIBRARY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first:
        print(json.dumps(first_question(options.first, options.features[0])))
        return
    for size in options.features:
        columns = []
        for videos in options.videos:
            library = made_library(options.folder, videos, size)
            columns.append(measure(library, videos, questions(options.questions, size)))
        print(f"\nFeatures of {size} numbers\n")
        rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
        print(table(["", *(f"{videos:,} videos" for videos in options.videos)], rows), flush=True)


def measure(library: Library, videos: int, vectors: Vectors) -> dict[str, str]:
    """All lines of one library."""
    asking = _Asking(library, vectors)
    every = range(0, videos, max(1, videos // 1000))
    scopes: dict[str, Callable[[], Scope]] = {
        "--video, one, by URI": lambda: _named(library, [uri(videos // 2)]),
        "--video, one, by file name": lambda: _named(library, [uri(videos // 2).rsplit("/", 1)[-1]]),
        "--video, 20, by id": lambda: _named(library, [video_id(number)[:12] for number in every[:20]]),
        "--video, 1,000, by id": lambda: _named(library, [video_id(number)[:12] for number in every[:1000]]),
        "--from 0:36": lambda: Scope(from_s=36.0),
        "--from 1:40, a tenth of the videos": lambda: Scope(from_s=100.0),
        "--from 10:00, nothing there": lambda: Scope(from_s=600.0),
        "--folder, 1,000 videos": lambda: Scope(folder=folder(videos // 2)),
        "--folder, 10,000 videos": lambda: Scope(folder=folder(videos // 2, is_wide=True)),
        "--folder, every video": lambda: Scope(folder="/archive"),
        "--folder, nothing there": lambda: Scope(folder="/archive/0"),
    }
    runs: dict[str, Callable[[int], object]] = {
        "bare LanceDB, 64 nearest": asking.bare,
        "search, limit 64": lambda i: asking.search(i, Scope()),
        "selection of `ask`": lambda i: asking.select(i, Scope()),
    }
    for name, scope in scopes.items():
        runs[f"search {name}"] = lambda i, scope=scope: asking.search(i, scope())  # type: ignore[misc]
        runs[f"selection {name}"] = lambda i, scope=scope: asking.select(i, scope())  # type: ignore[misc]
    lines = _medians(runs, len(vectors))
    lines["first search of a process"] = _cold(library, vectors.shape[1])
    printed = {name: f"{wall * 1000:.0f} ({cpu * 1000:.0f}) ms" for name, (wall, cpu) in lines.items()}
    return {**printed, f"recall@{RECALL_AT} of search": f"{asking.recall():.3f}"}


class _Asking:
    """An engine over the library whose questions are numbers of vectors; nothing is computed for them."""

    def __init__(self, library: Library, vectors: Vectors) -> None:
        self._library, self._vectors = library, vectors
        router = SimpleNamespace(device=torch.device("cpu"), question_feature=lambda question: vectors[int(question)])
        stand_in = SimpleNamespace(router=router, id="made", fingerprints=lambda spec: PRINTS)
        self._checkpoint = cast(Checkpoint, stand_in)
        reader = cast(ChatServer, SimpleNamespace(name="none"))  # nothing is answered
        self._engine = Engine(library, self._checkpoint, server=reader)
        self._table = library.tables.ensure(segments_table(PRINTS.features))

    def search(self, number: int, scope: Scope, limit: int = LIMIT) -> set[tuple[str, int]]:
        with suppress(UsageError):  # nothing there
            return {(hit.video_id, hit.index) for hit in self._engine.search(str(number), scope, limit)}
        return set()

    def select(self, number: int, scope: Scope) -> int:
        videos = asked_videos(self._library, self._checkpoint, scope)
        with suppress(UsageError):  # nothing there
            return len(select_segments(self._library, self._checkpoint, videos, scope, lambda: self._vectors[number]))
        return 0

    def bare(self, number: int) -> set[tuple[str, int]]:
        return self._rows(self._query(number).refine_factor(REFINE_FACTOR).maximum_nprobes(0).limit(LIMIT))

    def recall(self) -> float:
        """Against brute force."""
        shares = []
        for number in range(len(self._vectors)):
            exact = self._rows(self._query(number).bypass_vector_index().limit(RECALL_AT))
            shares.append(len(exact & self.search(number, Scope(), RECALL_AT)) / len(exact))
        return float(np.mean(shares))

    def _query(self, number: int) -> Any:
        query = self._table.search(self._vectors[number], vector_column_name="vector").distance_type("cosine")
        return query.select(["video_id", "index", "_distance"])

    def _rows(self, query: Any) -> set[tuple[str, int]]:
        return {(row["video_id"], row["index"]) for row in query.to_arrow().to_pylist()}


def first_question(address: str, size: int) -> Seconds:
    """Seconds from opening a library to the first hits, in a process that has everything imported but lancedb."""
    vectors = questions(1, size)
    begun = time.perf_counter(), time.process_time()
    _Asking(open_library(address), vectors).search(0, Scope())
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def _named(library: Library, names: Sequence[str]) -> Scope:
    return Scope(tuple(library.videos(ALL_MODELS, names)))


def _medians(runs: Mapping[str, Callable[[int], object]], count: int) -> dict[str, Seconds]:
    """Wall clock and CPU seconds of each, after one question that warms.

    Each question goes to all in turn, so that other load on the machine, which comes and goes, is the same for each.
    """
    seconds: dict[str, list[Seconds]] = {name: [] for name in runs}
    for number in (0, *range(count)):
        for name, run in runs.items():
            begun = time.perf_counter(), time.process_time()
            run(number)
            seconds[name].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    return {
        name: (statistics.median(wall for wall, _ in spent[1:]), statistics.median(cpu for _, cpu in spent[1:]))
        for name, spent in seconds.items()
    }


def _cold(library: Library, size: int) -> Seconds:
    command = [sys.executable, "-m", "benchmarks.search", "--folder", ".", "--first", library.uri]
    runs = [
        json.loads(subprocess.run([*command, "--features", str(size)], check=True, capture_output=True).stdout)
        for _ in range(3)
    ]
    return statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs)


if __name__ == "__main__":
    main()
