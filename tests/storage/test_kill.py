"""kill -9 at any point, run again: the same library as without it. And readers never see half of anything."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage import ALL_MODELS, Library, open_library
from tests.support.storage_harness import contents, index, pruned, put, snapshot_faults, tiny_video
from tests.support.storage_killer import SEEDS, kill_at_random, run, survives

pytestmark = pytest.mark.slow

READ_S = 8
STATES_BYTES = 2065  # of each of these videos
SEED_OF = {tiny_video(seed).video_id: seed for seed in range(SEEDS)}


@pytest.mark.parametrize(
    ("before", "wanted", "removed", "budget"),
    [
        ({}, {"/a": 1, "/b": 2}, [], None),
        ({"/a": 1, "/b": 1, "/c": 2, "/d": -1}, {"/a": 3, "/b": 2, "/d": 2, "/e": -1, "/f": 4}, ["/c"], None),
        ({"/a": 1, "/b": 1, "/c": 2}, {"/d": 3}, [], 2 * STATES_BYTES),
    ],
    ids=["first", "changed, copied, recovered, failed, removed", "states dropped of a video and its copy"],
)
def test_a_run_killed_at_any_write_and_run_again_leaves_no_trace(
    tmp_path: Path, before: dict[str, int], wanted: dict[str, int], removed: list[str], budget: int | None
) -> None:
    template, undisturbed, place = tmp_path / "template", tmp_path / "undisturbed", tmp_path / "killed"
    run(str(template), before, [])
    shutil.copytree(template, undisturbed)
    run(str(undisturbed), wanted, removed, budget)
    expected = contents(pruned(open_library(str(undisturbed))))
    for writes in range(1000):
        if before:
            shutil.copytree(template, place)
        survived = survives(writes, run, str(place), wanted, removed, budget)
        if (place / "library.json").exists():
            assert snapshot_faults(open_library(str(place)), SEED_OF) == [], f"after write {writes}"
        run(str(place), wanted, removed, budget)
        assert contents(pruned(open_library(str(place)))) == expected, f"after write {writes}"
        shutil.rmtree(place)
        if survived:
            break
    assert writes > 30, "all kinds of writes were met"


@contextmanager
def killed_writers(library: Library, uris: list[str], protocol: str) -> Iterator[None]:
    stop = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        killer = threads.submit(kill_at_random, library.uri, uris, protocol, 7, stop)
        try:
            yield
        finally:
            stop.set()
            killed = killer.result()
    assert killed > 0


def first_fault(library: Library, uris: list[str], seconds: float) -> tuple[str | None, int]:
    """The first thing a reader sees that it may not see, and the number of snapshots taken."""
    deadline, snapshots = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        missing = set(uris) - {record.uri for record in library.videos(ALL_MODELS)}
        faults = snapshot_faults(library, SEED_OF) + [f"{uri} vanished" for uri in missing]
        snapshots += 1
        if faults:
            return faults[0], snapshots
    return None, snapshots


@pytest.fixture
def uris() -> list[str]:
    return ["/a", "/b", "/c", "/d"]


@pytest.fixture
def library(library: Library, uris: list[str]) -> Library:
    with library.writer() as writer:
        for seed, uri in enumerate(uris):
            put(library, writer, uri, seed)
        writer.set_states_budget(2 * STATES_BYTES)
    return library


def test_readers_see_whole_videos_while_writers_are_killed_at_random(library: Library, uris: list[str]) -> None:
    with killed_writers(library, uris, "right"):
        fault, snapshots = first_fault(library, uris, READ_S)
    assert fault is None
    assert snapshots > 20
    index(library, dict.fromkeys(uris, 1), wait_s=10)
    pruned(library)


@pytest.mark.parametrize("protocol", ["catalog-first", "delete-then-add", "part-first"])
def test_the_harness_catches_a_wrong_protocol(library: Library, uris: list[str], protocol: str) -> None:
    with killed_writers(library, uris, protocol):
        fault, _ = first_fault(library, uris, seconds=60)
    assert fault is not None
