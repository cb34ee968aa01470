"""Writers that die: at a chosen write, or at any moment. They run in processes forked from a warm server."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from storage import Library, Writer, open_library, sweep, writer
from storage.part_file import HashingFile
from tests.support.storage_harness import PRINTS, index, put, source_of, tiny_video

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "tests.support.storage_killer",
        "tests.support.killed_tempo",
        "lancedb",
        "pyarrow.parquet",
        "tempo_core.checkpoint",
    ]
)

SHORTEST_PAGE = 100
Victim = multiprocessing.process.BaseProcess


def start(target: Callable[..., None], *args: Any) -> Victim:
    """A child process; killed by itself or by the caller."""
    _start_server()
    process = _CONTEXT.Process(target=target, args=args, daemon=True)
    process.start()
    return process


@cache
def _start_server() -> None:
    """The process that children are forked from: with our modules loaded, and nothing open that a fork could break."""
    surroundings = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONWARNINGS": "ignore:lancedb fork support:RuntimeWarning",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in surroundings.items():
            patch.setenv(name, value)
        forkserver.ensure_running()


def survives(writes: int, work: Callable[..., None], *args: Any) -> bool:
    """Whether ``work(*args)`` lived to its end in a process that kills itself at its write number ``writes``."""
    process = start(_work_until, writes, work, *args)
    process.join(120)
    assert process.exitcode in {0, -signal.SIGKILL}, process.exitcode
    return process.exitcode == 0


def run(uri: str, wanted: Mapping[str, int], removed: Sequence[str], budget: int | None = None) -> None:
    """What the killed run does, to its end: create the library, index what is not there yet, remove, drop states,
    prune."""
    library = open_library(uri, create=True)
    index(library, wanted, wait_s=10)
    with library.writer(wait_s=10) as writing:
        there = {record.uri for record in library.videos()}
        writing.remove([uri for uri in removed if uri in there])
        writing.set_states_budget(budget)
        writing.keep_to_budget()
        writing.prune()


def _work_until(writes: int, work: Callable[..., None], *args: Any) -> None:
    _compact_often()
    _die_at(writes)
    work(*args)


def _compact_often() -> None:
    """A few commits are as a night of them: tables are compacted in between."""
    writer.COMPACT_AFTER, sweep.MOST_APPENDS = 2, 1


def _die_at(writes: int) -> None:
    """Wrap all by which the library changes: the process dies before write number ``writes``, or within it."""
    from lancedb.db import LanceDBConnection
    from lancedb.merge import LanceMergeInsertBuilder
    from lancedb.table import LanceTable

    left = [writes]

    def count() -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    for owner, names in (
        (Path, ("mkdir", "rmdir")),
        (os, ("replace", "unlink", "fsync", "pwrite", "ftruncate")),
        (LanceTable, ("add", "delete", "optimize", "set_unenforced_primary_key", "restore")),
        (LanceTable, ("drop_columns", "alter_columns")),
        (LanceMergeInsertBuilder, ("execute",)),
        (LanceDBConnection, ("create_table", "drop_table")),
    ):
        for name in names:
            setattr(owner, name, _counted(getattr(owner, name), count))
    HashingFile.write = _torn(HashingFile.write, count)  # type: ignore[method-assign]


def _counted(real: Callable[..., Any], count: Callable[[], None]) -> Callable[..., Any]:
    def counted(*args: Any, **options: Any) -> Any:
        count()
        return real(*args, **options)

    return counted


def _torn(real: Callable[..., int], count: Callable[[], None]) -> Callable[..., int]:
    """Half of a page or footer is written before the count, half after it; page headers are not counted."""

    def torn(sink: HashingFile, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) < SHORTEST_PAGE:
            return real(sink, view)
        real(sink, view[: len(view) // 2])
        count()
        real(sink, view[len(view) // 2 :])
        return len(view)

    return torn


def write_for_ever(uri: str, uris: Sequence[str], seed: int, protocol: str) -> None:
    """Change one source after the other, at random, until killed. The seed of a content is its source's version."""
    _compact_often()
    library = open_library(uri)
    draw = random.Random(seed)
    while True:
        with library.writer(wait_s=30) as writing:
            for _ in range(20):
                _PROTOCOLS[protocol](library, writing, draw.choice(uris), draw.randrange(SEEDS))
            writing.prune()
            writing.optimize()


SEEDS = 40


def _right(library: Library, writer: Writer, uri: str, seed: int) -> None:
    if random.random() < 0.2:
        writer.keep_to_budget()
    content = writer.find_content(tiny_video(seed).video_id, PRINTS)
    if content and content.committed and random.random() < 0.7:
        writer.commit_copy(source_of(uri, seed), content)
    else:
        put(library, writer, uri, seed)


def _catalog_first(library: Library, writer: Writer, uri: str, seed: int) -> None:
    """Wrong: the video is in the catalog before its segments are in their table."""
    tables = library.tables
    add, held = tables.add, []
    tables.add = lambda *args: held.append(args)  # type: ignore[method-assign]
    put(library, writer, uri, seed)
    tables.add = add  # type: ignore[method-assign]
    for args in held:
        tables.add(*args)


def _delete_then_add(library: Library, writer: Writer, uri: str, seed: int) -> None:
    """Wrong: a source is taken out of the catalog before its new row is in."""
    if any(record.uri == uri for record in library.videos()):
        writer.remove([uri])
    put(library, writer, uri, seed)


def _part_first(library: Library, writer: Writer, uri: str, seed: int) -> None:
    """Wrong: a states part is removed before the catalog says that there is none."""
    part = put(library, writer, uri, seed).states_part
    assert part is not None
    library.store.delete(part.path)
    writer.set_states_budget(0)
    writer.keep_to_budget()


_PROTOCOLS: dict[str, Callable[[Library, Writer, str, int], Any]] = {
    "right": _right,
    "catalog-first": _catalog_first,
    "delete-then-add": _delete_then_add,
    "part-first": _part_first,
}


def kill_at_random(uri: str, uris: Sequence[str], protocol: str, seed: int, stop: threading.Event) -> int:
    """Start a writer, kill it after a random time, start the next, until told to stop; how many were killed."""
    draw = random.Random(seed)
    killed = 0
    while not stop.is_set():
        process = start(write_for_ever, uri, uris, draw.randrange(10**6), protocol)
        stop.wait(draw.uniform(0.1, 1.2))
        process.kill()
        process.join(30)
        killed += 1
    return killed
