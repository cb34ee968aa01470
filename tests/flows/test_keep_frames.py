"""``tempo index --keep frames``, ``tempo prune --states``: a library with few states or none answers the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import open_library
from tests.support.tempo_cli import Record, counting_ffmpeg, index, other_model, small_video, statuses, tempo


@pytest.fixture
def archive(archive: Path) -> Path:
    for seconds, name in enumerate(("one.mp4", "two.mp4"), start=5):
        small_video(archive / name, seconds=seconds)
    return archive


def asked(library: Path) -> Record:
    return {**tempo("ask", "What moves?", "--library", library, "--json").json[0], "timings_s": None}


def status(library: Path) -> Record:
    return tempo("status", "--library", library, "--json").json[0]


def kinds(library: Path) -> set[str]:
    return {path.name.split("-")[0] for path in (library / "parts").rglob("*.parquet")}


def test_a_library_of_frames_alone_answers_as_one_with_states(tmp_path: Path, archive: Path, library: Path) -> None:
    lines = index(library, archive, "--keep", "frames")
    index(tmp_path / "states", archive)
    assert {line["status"] for line in lines} == {"indexed"}
    assert [line["state_bytes"] for line in lines] == [0, 0]
    assert kinds(library) == {"frames"}
    assert asked(library) == asked(tmp_path / "states")
    tempo("verify", "--library", library)


def test_a_line_of_a_run_and_the_status_say_that_there_are_no_states(archive: Path, library: Path) -> None:
    said = tempo("index", archive, "--library", library, "--keep", "frames")
    assert "2 segments, no states" in said.out
    assert "states 0 bytes (2 videos without, new videos: frames alone)" in tempo("status", "--library", library).out


def test_later_runs_keep_what_the_last_one_was_told_and_leave_what_is_there(archive: Path, library: Path) -> None:
    index(library, archive / "one.mp4", "--keep", "frames")
    index(library, archive / "two.mp4")
    assert (status(library)["keep"], status(library)["without_states"]) == ("frames", 2)
    small_video(archive / "three.mp4", seconds=2)
    found = statuses(index(library, archive, "--keep", "states"))
    assert found == {"one.mp4": "unchanged", "two.mp4": "unchanged", "three.mp4": "indexed"}
    assert (status(library)["keep"], status(library)["without_states"]) == ("states", 2)


def test_another_model_encodes_frames_of_which_no_states_were_kept(
    tmp_path: Path, archive: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ffmpeg, decodes = counting_ffmpeg(tmp_path)
    monkeypatch.setenv("TEMPO_FFMPEG", ffmpeg)
    index(library, archive / "one.mp4", "--keep", "frames")
    model = other_model(tmp_path / "other", "language_model.")  # with states, it would take them over
    assert statuses(index(library, archive / "one.mp4", "--model", model, "--keep", "states")) == {"one.mp4": "indexed"}
    assert decodes() == 1
    assert kinds(library) == {"frames", "states"}


def test_frames_alone_are_planned_with_fewer_bytes(archive: Path, library: Path) -> None:
    planned = [
        tempo("index", archive, "--library", library, "--plan", "--json", "--keep", keep).json[0]["bytes"]
        for keep in ("states", "frames")
    ]
    assert planned[0] > 2 * planned[1] > 0


def test_what_can_be_kept_is_said(archive: Path, library: Path) -> None:
    said = tempo("index", archive, "--library", library, "--keep", "nothing", code=2)
    assert "--keep nothing: Input should be 'states' or 'frames'" in said.err


def test_a_budget_drops_states_and_answers_stay_the_same(archive: Path, library: Path) -> None:
    index(library, archive)
    before = asked(library)
    said = tempo("prune", "--library", library, "--states", "50kB")
    assert "asked about least recently; their frames are kept" in said.out
    found = status(library)
    assert (found["states_budget"], found["without_states"] > 0) == (50_000, True)
    assert found["states_bytes"] <= 50_000
    assert "(at most 50.0 kB, " in tempo("status", "--library", library).out
    assert asked(library) == before
    assert tempo("prune", "--library", library, "--json").json[0]["dropped_videos"] == 0


def test_a_run_ends_within_the_budget_and_says_what_it_dropped(archive: Path, library: Path) -> None:
    index(library, archive / "one.mp4")
    size = status(library)["states_bytes"]
    tempo("prune", "--library", library, "--states", 2 * size - 1)
    said = tempo("index", archive, "--library", library)
    assert "states of 1 video dropped" in said.err
    without = [record.title for record in open_library(str(library)).videos() if record.states_part is None]
    assert without == ["one.mp4"]
    assert statuses(index(library, archive)) == {"one.mp4": "unchanged", "two.mp4": "unchanged"}


def test_a_budget_can_be_lifted(archive: Path, library: Path) -> None:
    index(library, archive, "--keep", "frames")
    tempo("prune", "--library", library, "--states", "0")
    tempo("prune", "--library", library, "--states", "all")
    assert status(library)["states_budget"] is None


@pytest.mark.parametrize("text", ["much", "-5GB", "5 parsecs", ""])
def test_a_budget_that_is_no_number_of_bytes_is_refused(text: str, archive: Path, library: Path) -> None:
    index(library, archive / "one.mp4", "--keep", "frames")
    said = tempo("prune", "--library", library, "--states", text, code=2)
    assert "is no number of bytes; write 200GB, 1.5 TB, or all" in said.err
