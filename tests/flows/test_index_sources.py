"""``tempo index`` with what chooses its sources and its time: lists, patterns, files that settle, nights that end."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from flows.request import IndexRequest
from storage import open_library
from tests.support.tempo_cli import index, small_video, statuses, tempo
from tests.support.videos import make_video

DEFAULT_SETTLE_S = IndexRequest.model_fields["settle_s"].default


@pytest.fixture
def archive(archive: Path) -> Path:
    """Three videos: cam1/a.mp4, cam1/raw/b.mp4, cam2/c.mp4."""
    for seconds, name in enumerate(("cam1/a.mp4", "cam1/raw/b.mp4", "cam2/c.mp4"), 2):
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        small_video(archive / name, seconds=seconds)
    return archive


def age(path: Path, seconds: float) -> Path:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))
    return path


def clock(offset: timedelta) -> str:
    return (datetime.now().astimezone() + offset).strftime("%H:%M")


def test_patterns_choose_and_what_is_left_out_is_not_gone(library: Path, archive: Path) -> None:
    assert statuses(index(library, archive, "--exclude", "raw", "--exclude", "/cam2")) == {"a.mp4": "indexed"}
    assert statuses(index(library, archive, "--include", "raw")) == {"b.mp4": "indexed"}
    (archive / "cam1/a.mp4").unlink()
    assert statuses(index(library, archive, "--include", "cam2")) == {"c.mp4": "indexed"}
    everything = {"a.mp4": "gone", "b.mp4": "unchanged", "c.mp4": "unchanged"}
    assert statuses(index(library, archive)) == everything
    assert statuses(index(library, archive, "--exclude", "b.mp4")) == {"a.mp4": "gone", "c.mp4": "unchanged"}


def test_a_list_is_a_source(library: Path, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "tonight.txt").write_text(f"# from the archive's database\n{archive}/cam1/raw\n{archive}/cam2/c.mp4\n")
    assert statuses(index(library, f"@{tmp_path}/tonight.txt")) == {"b.mp4": "indexed", "c.mp4": "indexed"}
    (archive / "cam2/c.mp4").unlink()
    assert statuses(index(library, f"@{tmp_path}/tonight.txt")) == {"b.mp4": "unchanged", "c.mp4": "gone"}
    (tmp_path / "tonight.txt").write_text(f"{archive}/cam3\n")
    said = tempo("index", f"@{tmp_path}/tonight.txt", "--library", library, code=1)
    assert f"tonight.txt, line 1: {archive}/cam3: no such file or folder" in said.err


def test_a_file_that_may_still_be_written_waits_for_the_next_run(
    library: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEMPO_SETTLE")  # by default, files settle
    for path in archive.rglob("*.mp4"):
        age(path, DEFAULT_SETTLE_S + 60)
    new = age(archive / "cam1/a.mp4", 3)
    lines = {Path(line["uri"]).name: line for line in index(library, archive)}
    assert {name: line["status"] for name, line in lines.items()} == {
        "a.mp4": "pending",
        "b.mp4": "indexed",
        "c.mp4": "indexed",
    }
    assert lines["a.mp4"]["reason"].startswith("still being written: changed ")
    assert open_library(str(library)).pending() == [str(new)]
    age(new, DEFAULT_SETTLE_S + 60)
    assert statuses(index(library, archive))["a.mp4"] == "indexed"
    assert open_library(str(library)).pending() == []


def test_the_help_names_the_default_settle_time() -> None:
    words = " ".join(tempo("index", "--help").out.replace("│", " ").split())
    assert f"[env var: TEMPO_SETTLE] [default: {DEFAULT_SETTLE_S}]" in words


def test_what_a_night_left_goes_first_in_the_next(library: Path, archive: Path) -> None:
    late = archive / "cam2/c.mp4"
    over = clock(timedelta(hours=-1))
    said = tempo("index", late, "--library", library, "--until", over, "--json")
    assert f"{over} is over, so no video is begun" in said.err
    assert statuses(said.json[:-1]) == {"c.mp4": "pending"}
    (plan,) = tempo("index", archive, "--library", library, "--plan", "--json").json
    assert [task["uri"] for task in plan["tasks"]] == [
        str(archive / name) for name in ("cam2/c.mp4", "cam1/a.mp4", "cam1/raw/b.mp4")
    ]
    assert statuses(index(library, archive / "cam1", "--max-hours", "1")) == {"a.mp4": "indexed", "b.mp4": "indexed"}
    assert open_library(str(library)).pending() == [str(late)], "left by another run, of other sources"
    indexed = index(library, archive, "--until", clock(timedelta(hours=2)))
    assert (statuses(indexed)["c.mp4"], open_library(str(library)).pending()) == ("indexed", [])


def test_a_plan_says_why(library: Path, archive: Path) -> None:
    index(library, archive / "cam1")
    small_video(archive / "cam1/a.mp4", seconds=6)
    age(archive / "cam1/raw/b.mp4", 0)
    out = tempo("index", archive, "--library", library, "--plan", "--settle", "0").out
    reasons = {line.split("/")[-1].split()[0]: line for line in out.splitlines() if line.startswith("to index")}
    assert {name: "changed" in line for name, line in reasons.items()} == {
        "a.mp4": True,
        "b.mp4": True,
        "c.mp4": False,
    }
    assert "  new  " in reasons["c.mp4"]
    waiting = tempo("index", archive, "--library", library, "--plan", "--settle", "3600", "--json").json[0]
    assert len(waiting["pending"]) == 3 and waiting["tasks"] == []


def test_a_name_stays_on_its_line(library: Path, tmp_path: Path) -> None:
    broken = tmp_path / "two\nlines\x1b[31m.mp4"
    broken.write_text("no video")
    for flags, code in ((["--plan"], 0), ([], 3), ([], 0)):
        out = tempo("index", broken, "--library", library, *flags, code=code).out
        assert [line for line in out.splitlines() if "lines" in line] == [
            line for line in out.splitlines() if "two " in line
        ]
        assert "\x1b" not in out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--until", "25:00"], "HH:MM"),
        (["--max-hours", "0"], "--max-hours 0.0: Input should be greater than 0"),
        (["--settle", "-1"], "--settle -1.0: Input should be greater than or equal to 0"),
        (["--settle", "nan"], "--settle nan: Input should be"),
        (["--exclude", "!a"], "not a valid pattern to include or exclude"),
        (["--ray", "ray://head:10001"], "HOST:PORT"),
        (["--ray", "on"], "HOST:PORT"),
    ],
)
def test_a_wrong_option_is_told_and_nothing_is_done(
    library: Path, archive: Path, options: list[str], reason: str
) -> None:
    said = tempo("index", archive, "--library", library, *options, code=2)
    assert reason in " ".join(said.err.replace("│", " ").split())
    assert not library.exists()


def test_patterns_that_leave_nothing_are_named(library: Path, archive: Path) -> None:
    said = tempo("index", archive, "--library", library, "--include", "*.avi", code=1)
    assert f"{archive}: --include and --exclude leave none of the videos there" in said.err
    assert not library.exists()


def test_what_is_not_taken_is_reported_once(library: Path, archive: Path) -> None:
    (archive / "cam1/notes.txt").write_text("rain")
    for more in ([], ["--plan"]):
        said = tempo("index", archive, "--library", library, "--include", "cam1/a.mp4", "--include", "*.txt", *more)
        assert said.err.count("not taken for videos: 1 .txt; name a file to index it") == 1


def test_a_folder_without_videos_is_told_what_it_holds(library: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("rain")
    said = tempo("index", tmp_path / "notes", "--library", library, code=1)
    assert "no video there; not taken for videos: 1 .txt; name a file to index it" in said.err


def test_folders_are_searched_for_raw_streams_and_rare_containers(library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rare"
    folder.mkdir()
    kinds = {
        "h264": "libx264",
        "265": "libx265",
        "m2v": "mpeg2video",
        "ivf": "libvpx",
        "3g2": "mpeg4",
        "y4m": "wrapped_avframe",
    }
    for suffix, codec in kinds.items():
        make_video(folder / f"a.{suffix}", codec=codec)
    assert statuses(index(library, folder)) == {f"a.{suffix}": "indexed" for suffix in kinds}
