"""A run that is killed or interrupted anywhere, and run again, leaves what an undisturbed run leaves."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from storage import open_library
from tests.support import storage_killer
from tests.support.killed_tempo import killed_tempo
from tests.support.tempo_cli import (
    DEADLINE_S,
    contents,
    ended,
    index,
    lengthen,
    small_video,
    start_tempo,
    statuses,
    swept,
)

pytestmark = pytest.mark.slow
STEPS = [
    ("VideoWriter.add_frames", "after", 3),
    ("VideoWriter.add_features", "before", 1),
    ("VideoWriter.finish", "after", 1),
    ("Writer.forget_failure", "before", 1),
    ("Writer.commit_copy", "before", 1),
    ("Writer.optimize", "before", 1),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two contents, the first a large file and with a copy, and a file that fails."""
    folder = tmp_path_factory.mktemp("archive")
    lengthen(small_video(folder / "a.mp4", seconds=9))
    small_video(folder / "b.mp4", seconds=5)
    shutil.copy(folder / "a.mp4", folder / "c.mp4")
    (folder / "d.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def undisturbed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    library = tmp_path_factory.mktemp("undisturbed") / "library"
    index(library, archive, code=3)
    return swept(library)


def finish(library: Path, archive: Path) -> None:
    """Run again until nothing is left to do."""
    lines = index(library, archive, "--retry-failed", code=3)
    assert {line["status"] for line in lines} <= {"indexed", "duplicate", "unchanged", "failed"}


@pytest.mark.parametrize(("step", "when", "nth"), STEPS, ids=str)
def test_killed_at_a_step_and_run_again(
    step: str, when: str, nth: int, archive: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    library = tmp_path / "library"
    process = storage_killer.start(killed_tempo, step, when, nth, "index", str(archive), "--library", str(library))
    process.join(DEADLINE_S)
    assert process.exitcode == -signal.SIGKILL
    assert_whole(library, undisturbed)
    finish(library, archive)
    assert swept(library) == undisturbed


def assert_whole(library: Path, undisturbed: dict[str, Any]) -> None:
    """Whatever is visible is what the undisturbed run made of it."""
    found = contents(library)
    assert found["catalog"] <= undisturbed["catalog"]
    assert found["segments"] <= undisturbed["segments"]
    assert found["bytes"].items() <= undisturbed["bytes"].items()


def test_killed_at_any_moment_again_and_again(archive: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    library, chance = tmp_path / "library", random.Random(1)
    for _ in range(2):
        process = start_tempo("index", archive, "--library", library, "--retry-failed")
        wait_for_writer(library, process.pid)
        time.sleep(chance.uniform(0.0, 1.5))
        process.kill()
        ended(process)
        assert_whole(library, undisturbed)
    finish(library, archive)
    assert swept(library) == undisturbed


def wait_for_writer(library: Path, pid: int) -> None:
    """Until that process holds the lease, so that a kill does not only hit its imports."""
    deadline = time.monotonic() + DEADLINE_S
    lease = library / "lease.json"
    while not (lease.exists() and f'"pid": {pid}' in lease.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_was_finished_and_nothing_else(
    number: signal.Signals, archive: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    library = tmp_path / "library"
    process = start_tempo("index", archive, "--library", library, "--json")
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    said = ended(process)
    assert '"indexed"' in first
    assert said.code == 130, said.err
    assert "Traceback" not in said.err
    assert open_library(str(library)).verify() == []
    assert open_library(str(library)).status().unreferenced_bytes == 0
    finish(library, archive)
    assert swept(library) == undisturbed


def test_two_runs_at_once_neither_lose_nor_double(archive: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    library = tmp_path / "library"
    both = [start_tempo("index", archive, "--library", library, "--json") for _ in range(2)]
    said = [ended(process) for process in both]
    assert sorted(one.code for one in said) == [0, 3]  # the second finds the failed file noted
    found = [statuses(one.json[:-1]) for one in said]
    assert sorted(one["a.mp4"] for one in found) == ["indexed", "unchanged"]
    assert swept(library) == undisturbed
