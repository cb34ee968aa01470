"""``tempo status | verify | prune | remove``: the library's own housekeeping, from index to empty."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from storage import Source, open_library
from tests.support.storage_harness import states_part
from tests.support.tempo_cli import index, small_video, statuses, tempo


@pytest.fixture
def archive(archive: Path) -> Path:
    """One video and its copy."""
    shutil.copy(small_video(archive / "talk.mp4", seconds=3), archive / "copy.mp4")
    return archive


@pytest.fixture
def library(library: Path, archive: Path) -> Path:
    index(library, archive)
    return library


def uris(library: Path) -> list[str]:
    return [Path(source["uri"]).name for source in tempo("status", "--library", library, "--json").json[0]["sources"]]


def test_status_counts_contents_sources_and_sizes(library: Path) -> None:
    (found,) = tempo("status", "--library", library, "--json").json
    assert (found["videos"], len(found["sources"])) == (1, 2)
    assert found["hours"] == pytest.approx(3 / 3600)
    assert found["frames_bytes"] > 0
    assert found["states_bytes"] > 0
    (model,) = found["models"]
    assert (model["model_id"], model["spec"]["name"], model["is_default"]) == ("embedded", "paper", True)
    assert (model["sources"], model["videos"], model["segments"]) == (2, 1, 1)
    shown = tempo("status", "--library", library).out
    assert "1 video, 3.0 s" in shown
    assert "embedded, spec paper: 2 sources of 1 video" in shown


def test_failures_are_shown_with_their_reasons(library: Path, archive: Path) -> None:
    (archive / "bad.mp4").write_text("no video")
    (reason,) = (line["reason"] for line in index(library, archive, code=3) if line["status"] == "failed")
    assert reason in tempo("status", "--library", library).out


def test_verify_finds_nothing_in_a_sound_library(library: Path) -> None:
    assert tempo("verify", "--library", library, "--json").json == [{"ok": True, "problems": []}]
    assert "everything is as it should be" in tempo("verify", "--library", library).out


def test_verify_finds_a_flipped_bit(library: Path) -> None:
    (record, *_) = open_library(str(library)).videos()
    part = library / states_part(record).path
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    (found,) = tempo("verify", "--library", library, "--json", code=1).json
    assert not found["ok"]
    assert any(states_part(record).path in problem["subject"] for problem in found["problems"])
    assert f"{len(found['problems'])} problems" in tempo("verify", "--library", library, code=1).out


def test_one_problem_is_counted_as_one(library: Path) -> None:
    (record, *_) = open_library(str(library)).videos()
    (library / record.frames_part.path).unlink()
    assert tempo("verify", "--library", library, code=1).out.splitlines()[-1] == "1 problem"


def test_verify_tells_a_way_out_that_mends_copies_too(library: Path, archive: Path) -> None:
    (record, *_) = open_library(str(library)).videos()
    (library / states_part(record).path).unlink()
    (found,) = tempo("verify", "--library", library, "--json", code=1).json
    command = re.search(r"`tempo (remove [0-9a-f]+)`", found["problems"][0]["reason"])
    assert command is not None
    tempo(*command[1].split(), "--library", library)
    assert statuses(index(library, archive)) == {"copy.mp4": "indexed", "talk.mp4": "duplicate"}
    tempo("verify", "--library", library)


def test_removing_a_uri_leaves_the_copy(library: Path, archive: Path) -> None:
    said = tempo("remove", archive / "talk.mp4", "--library", library, "--json")
    assert said.json == [{"uri": str(archive / "talk.mp4"), "status": "removed"}]
    assert uris(library) == ["copy.mp4"]
    assert tempo("ask", "What?", "--library", library, "--json").json[0]["segments"]


def test_removing_an_id_removes_all_copies_and_prune_frees_their_room(library: Path, archive: Path) -> None:
    (record, *_) = open_library(str(library)).videos()
    assert len(tempo("remove", record.video_id[:10], "--library", library, "--json").json) == 2
    assert uris(library) == []
    parts = sorted((library / "parts").rglob("*"))
    (said,) = tempo("prune", "--library", library, "--json").json
    assert said["freed_bytes"] < 1000  # LanceDB writes its own files anew, a byte more or less
    assert sorted((library / "parts").rglob("*")) == parts  # readers have their grace
    with open_library(str(library)).writer() as writer:
        assert writer.prune(grace_s=0.0) > 0
    assert statuses(index(library, archive)) == {"copy.mp4": "indexed", "talk.mp4": "duplicate"}


def test_a_source_that_only_ever_failed_is_removed_by_its_file_name(library: Path) -> None:
    source = Source("/archive/broken.mp4", 1, "1")
    with open_library(str(library)).writer() as writer:
        writer.record_failure(source, "0123456789abcdef", "no video stream", "decode")
    removed = tempo("remove", "broken.mp4", "--library", library, "--json")
    assert removed.json == [{"uri": source.uri, "status": "removed"}]
    (status,) = tempo("status", "--library", library, "--json").json
    assert status["failures"] == []


def test_asking_an_empty_library_is_said(library: Path, archive: Path) -> None:
    tempo("remove", archive / "talk.mp4", archive / "copy.mp4", "--library", library)
    assert "no video indexed" in tempo("ask", "What?", "--library", library, code=1).err


def test_a_moved_library_works_as_before(library: Path, tmp_path: Path) -> None:
    before = tempo("ask", "What?", "--library", library, "--json").json[0]
    moved = library.rename(tmp_path / "elsewhere")
    after = tempo("ask", "What?", "--library", moved, "--json").json[0]
    assert {**after, "timings_s": None} == {**before, "timings_s": None}


def test_a_busy_library_names_who_holds_it(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.terminal.commands.library

    monkeypatch.setattr(flows.terminal.commands.library, "LEASE_WAIT_S", 0.0)
    with open_library(str(library)).writer():
        assert "is being written by process" in tempo("prune", "--library", library, code=1).err
        assert uris(library)  # reading goes on


def test_a_name_forges_no_line(tmp_path: Path) -> None:
    forged = "failed  /etc/other.mp4"
    path = tmp_path / f"a\n{forged}"
    path.parent.mkdir(parents=True)
    path.write_text("no video")
    library = tmp_path / "library"
    tempo("index", path, "--library", library, code=3)
    shown = [
        *tempo("status", "--library", library).out.splitlines(),
        *tempo("remove", path, "--library", library).out.splitlines(),
    ]
    assert sum(forged.rsplit(maxsplit=1)[-1] in line for line in shown) == 2
    assert not any(line.startswith(forged) for line in shown)
