"""Processes of a fan-out on Ray that hang, crash or are killed: each costs its own video, and the run goes on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage import open_library
from tests.support.alike import assert_alike
from tests.support.faulty_ffmpeg import (
    HANG,
    HELD,
    KILL_ENCODER,
    KILL_READER,
    SLOW,
    FaultyFfmpeg,
    after,
    faulty_ffmpeg,
    once,
)
from tests.support.tempo_cli import Record, Said, ended, index, small_video, start_tempo, statuses
from tests.support.waiting import wait_for_writer

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True)
class Night:
    """What a run that meets faults left, and one that began meanwhile."""

    archive: Path
    library: Path
    ffmpeg: FaultyFfmpeg
    said: Said
    meanwhile: Said

    @property
    def lines(self) -> dict[str, Record]:
        """By file name; a video that is reported twice would be lost here, so that is checked first."""
        lines = self.said.json[:-1]
        assert len({line["uri"] for line in lines}) == len(lines)
        return {Path(line["uri"]).name: line for line in lines}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Two pairs of twins, and three whose reading goes wrong, beside a run in one process that overlaps."""
    folder = tmp_path_factory.mktemp("night")
    archive, library = folder / "archive", folder / "library"
    archive.mkdir()
    for number, name in enumerate(["a1", "c-killed-once", "d-killed", "e-hangs"]):
        small_video(archive / f"{name}.mp4", seconds=3, rate=str(5 + number))
    small_video(archive / "b1.mp4", seconds=4)
    for one, twin in (("a1", "a2"), ("b1", "b2")):
        shutil.copy(archive / f"{one}.mp4", archive / f"{twin}.mp4")
    broken = once("sleep 1; echo 'this decoder is broken' >&2; exit 1", "a")
    killed_once = once(KILL_READER, "c")
    faults = {"a": broken, "b": SLOW, "c": killed_once, "d": KILL_READER, "e": HANG}
    ffmpeg = faulty_ffmpeg(folder, faults)
    wanted = ("index", archive, "--library", library, "--json")
    process = start_tempo(*wanted, "--ray", "local", TEMPO_FFMPEG=ffmpeg.program, TEMPO_STALL_S="3")
    wait_for_writer(library, process.pid)
    meanwhile = start_tempo(*wanted, "--ray", "off")
    return Night(archive, library, ffmpeg, ended(process), ended(meanwhile))


def test_the_run_ends_well_and_tells_of_each_video(night: Night) -> None:
    assert night.said.code == 3, night.said.err
    assert "Traceback" not in night.said.err
    assert set(night.lines) == {path.name for path in night.archive.iterdir()}


def test_a_killed_reader_costs_one_try(night: Night) -> None:
    assert night.lines["c-killed-once.mp4"]["status"] == "indexed"
    titles = [title for name, title in night.ffmpeg.decodes if name.startswith("c")]
    assert titles == ["ray::decode c-killed-once.mp4"] * 2


def test_a_video_that_crashes_its_reader_twice_has_failed(night: Night) -> None:
    line = night.lines["d-killed.mp4"]
    assert line["status"] == "failed"
    assert "the process that read it died" in line["reason"]
    assert night.ffmpeg.count("d") == 2


def test_a_decoder_that_hangs_is_stopped_at_the_deadline(night: Night) -> None:
    """3 s of silence, and ten times the half second between two samples."""
    line = night.lines["e-hangs.mp4"]
    assert line["status"] == "failed"
    assert line["reason"] == "ffmpeg gave nothing for 8 s and was stopped"
    assert night.ffmpeg.count("e") == 1


def test_twins_under_way_together_are_decoded_once(night: Night) -> None:
    assert sorted(night.lines[name]["status"] for name in ("b1.mp4", "b2.mp4")) == ["duplicate", "indexed"]
    assert night.ffmpeg.count("b") == 1
    assert night.lines["b1.mp4"]["video_id"] == night.lines["b2.mp4"]["video_id"]


def test_a_twin_of_one_that_fails_is_tried_by_itself(night: Night) -> None:
    results = [night.lines[name] for name in ("a1.mp4", "a2.mp4")]
    assert sorted(line["status"] for line in results) == ["failed", "indexed"]
    (reason,) = (line["reason"] for line in results if line["reason"])
    assert reason.startswith("no frame could be decoded: this decoder is broken")
    assert night.ffmpeg.count("a") == 2


def test_a_run_that_overlaps_waits_and_does_only_what_a_passing_fault_left(night: Night) -> None:
    """With sources and a library that the other one has just made."""
    assert "waiting" in night.meanwhile.err
    assert night.meanwhile.code == 0, night.meanwhile.err
    found = statuses(night.meanwhile.json[:-1])
    left = {name for name, line in night.lines.items() if line["tried_again"]}
    assert left == {"d-killed.mp4", "e-hangs.mp4"}
    failed = {name for name, line in night.lines.items() if line["status"] == "failed"} - left
    assert found == {name: "failed-before" if name in failed else "unchanged" for name in night.lines} | dict.fromkeys(
        left, "indexed"
    )


def test_run_again_the_library_is_that_of_an_undisturbed_run(night: Night, tmp_path: Path) -> None:
    again = statuses(index(night.library, night.archive, "--retry-failed", "--ray", "off"))
    failed = {name for name, line in night.lines.items() if line["status"] == "failed" and not line["tried_again"]}
    assert {name for name, status in again.items() if status != "unchanged"} == failed
    index(tmp_path / "undisturbed", night.archive, "--ray", "off")
    assert_alike(night.library, tmp_path / "undisturbed")


def test_an_encoding_process_that_is_killed_costs_no_video(tmp_path: Path) -> None:
    """Which video is recorded where one kills it again and again, ``test_dispatch`` shows."""
    archive, library = tmp_path / "archive", tmp_path / "library"
    archive.mkdir()
    for name, rate in (("a", "5"), ("guilty", "6")):
        small_video(archive / f"{name}.mp4", rate=rate)
    kill = f'{KILL_ENCODER}; touch "$state/go"; {HANG}'  # in this order: of neither is a frame written before
    ffmpeg = faulty_ffmpeg(tmp_path, {"a": HELD, "guilty": once(after("a", kill))})
    arguments = ("index", archive, "--library", library, "--json", "--ray", "local")
    said = ended(start_tempo(*arguments, TEMPO_FFMPEG=ffmpeg.program))
    assert said.code == 0, said.err
    lines = said.json[:-1]
    assert statuses(lines) == {"a.mp4": "indexed", "guilty.mp4": "indexed"}
    assert len(lines) == 2
    assert ffmpeg.count("a") == ffmpeg.count("guilty") == 2  # both were under way when it was killed
    assert open_library(str(library)).verify(grace_s=0) == []
