"""Faults that pass: whatever goes wrong around a file, the file is not blamed for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tempo_core.decoding import find_ffmpeg
from tests.support.programs import program
from tests.support.tempo_cli import index, small_video, statuses, tempo

PASSING_FAULTS = {
    "killed for memory": "kill -KILL $$",
    "replaced": "exit 126",
    "a library of it is missing": "echo 'error while loading shared libraries: libx.so' >&2; exit 127",
    "the disk is away": "echo '[in#0 @ 0x5] Error opening input: Input/output error' >&2; exit 251",
    "hangs": "exec sleep 600",
}


@pytest.mark.parametrize("fault", PASSING_FAULTS.values(), ids=PASSING_FAULTS)
def test_a_passing_fault_is_told_apart_and_the_next_run_indexes_the_video(
    fault: str, library: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_video(archive / "a.mp4")
    works = f'case "$*" in *-filters*|*-version*) exec {find_ffmpeg()} "$@" ;; esac'
    ffmpeg = program(tmp_path / "ffmpeg", f"{works}\n{fault}")
    with monkeypatch.context() as night:
        night.setenv("TEMPO_FFMPEG", str(ffmpeg))
        night.setenv("TEMPO_STALL_S", "0.1")
        (failed,) = index(library, archive, code=3)
    assert (failed["status"], failed["tried_again"]) == ("failed", True)
    (recorded,) = tempo("status", "--library", library, "--json").json[0]["failures"]
    assert (recorded["attempts"], recorded["tried_again"]) == (1, True)
    assert "not the file's fault" in tempo("status", "--library", library).out
    assert statuses(index(library, archive)) == {"a.mp4": "indexed"}


def test_an_ffmpeg_that_stops_running_ends_the_run_and_blames_no_video(
    library: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mp4", "b.mp4"):
        small_video(archive / name)
    ffmpeg = program(tmp_path / "ffmpeg", f'case "$*" in *-filters*) exec {find_ffmpeg()} "$@" ;; esac\nexit 127')
    with monkeypatch.context() as night:
        night.setenv("TEMPO_FFMPEG", str(ffmpeg))
        ended = tempo("index", archive, "--library", library, "--json", code=1)
    assert ended.out == ""
    assert ended.err.count("does not run") == 1
    assert tempo("status", "--library", library, "--json").json[0]["failures"] == []
