"""Runs on Ray that are killed, interrupted or out of disk: no process is left, the library is sound, and the next run
makes it whole."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage import open_library
from tests.support import ROOT
from tests.support.alike import assert_alike
from tests.support.faulty_ffmpeg import HELD, SLOW, VERY_SLOW, faulty_ffmpeg
from tests.support.ray_processes import alive, descendants, titles
from tests.support.tempo_cli import Said, ended, index, lengthen, small_video, statuses
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]
GONE_S = 15.0
MINUTE_LONG = frozenset({"ray::DashboardAgent", "ray::RuntimeEnvAgent"})  # they try to report that all else is dead


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video that is over soon and committed at once, and one that takes its time."""
    folder = tmp_path_factory.mktemp("archive")
    lengthen(small_video(folder / "a.mp4", seconds=2))
    small_video(folder / "slow.mp4", seconds=4)
    return folder


@pytest.fixture(scope="module")
def undisturbed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("undisturbed") / "library"
    index(library, archive, "--ray", "off")
    return library


@dataclass(frozen=True)
class Running:
    """A run with its first video committed and its second one in the middle; the processes below it."""

    process: subprocess.Popen[str]
    below: dict[int, int]
    library: Path

    @property
    def encoder(self) -> int:
        """The process of the encoding actor."""
        begins = ("ray::EncodingActor", "ray::index", "ray::open")
        (pid,) = [pid for pid, title in titles(self.below).items() if title.startswith(begins)]
        return pid


def running(archive: Path, folder: Path, pace: str = VERY_SLOW) -> Running:
    """In a process group of its own, as a terminal starts it. The second video begins when the first is committed."""
    library, ffmpeg = folder / "library", faulty_ffmpeg(folder, {"slow": f"{HELD}; {pace}"})
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "index", archive, "--library", library, "--json", "--ray", "local"],
        cwd=ROOT,
        env={**os.environ, "TEMPO_FFMPEG": ffmpeg.program},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout is not None
    assert '"indexed"' in process.stdout.readline()
    (folder / "go").touch()
    assert wait_until(lambda: any("slow.mp4" in title and "-readrate" in title for title in below_it(process)))
    assert any(title.startswith("ray::decode slow.mp4") for title in below_it(process)), below_it(process)
    return Running(process, descendants(process.pid), library)


def below_it(process: subprocess.Popen[str]) -> list[str]:
    return list(titles(descendants(process.pid)).values())


def errors(said: Said) -> list[str]:
    """Lines on standard error, but for the one about the model."""
    return [line for line in said.err.splitlines() if "its own small world" not in line]


def assert_all_gone(run: Running, but: frozenset[str] = frozenset()) -> None:
    def left() -> set[str]:
        return set(titles(alive(run.below)).values()) - but

    assert wait_until(lambda: not left(), GONE_S), left()


def assert_made_whole(run: Running, archive: Path, undisturbed: Path) -> None:
    again = statuses(index(run.library, archive, "--ray", "off"))
    assert again == {"a.mp4": "unchanged", "slow.mp4": "indexed"}
    assert_alike(run.library, undisturbed)


def test_a_killed_driver_leaves_no_process_and_no_damage(archive: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = running(archive, tmp_path)
    run.process.kill()
    assert_all_gone(run, but=MINUTE_LONG)
    assert ended(run.process).code == -signal.SIGKILL
    assert open_library(str(run.library)).verify() == []
    assert_made_whole(run, archive, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_clean(
    number: signal.Signals, archive: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """ctrl-C goes to all processes of the terminal's group, a polite kill to the one that was started."""
    run = running(archive, tmp_path)
    if number == signal.SIGINT:
        os.killpg(run.process.pid, number)
    else:
        run.process.send_signal(number)
    assert_all_gone(run)
    said = ended(run.process)
    assert said.code == 130, said.err
    assert errors(said) == ["tempo: interrupted; what was finished is kept"]
    assert open_library(str(run.library)).verify() == []
    assert open_library(str(run.library)).status().unreferenced_bytes == 0
    assert_made_whole(run, archive, undisturbed)


def test_a_full_disk_ends_the_run_with_one_error(archive: Path, undisturbed: Path, tmp_path: Path) -> None:
    """The kernel's own refusal: a limit on the size of files, for the process that writes states."""
    run = running(archive, tmp_path, SLOW)
    resource.prlimit(run.encoder, resource.RLIMIT_FSIZE, (10_000, 10_000))
    said = ended(run.process)
    assert said.code == 1, said.err
    (line,) = errors(said)
    assert line.startswith(f"tempo: no space left at {run.library}")
    assert "run `tempo prune`" in line
    assert_all_gone(run)
    assert open_library(str(run.library)).verify() == []
    assert open_library(str(run.library)).status().unreferenced_bytes == 0
    assert_made_whole(run, archive, undisturbed)
