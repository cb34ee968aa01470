"""Whose fault a failure is: only bytes that were read and are wrong are the file's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tempo_core.decoding import SegmentReader, probe, read_segments
from tempo_core.errors import DecoderDied, ProgramError, SourceError
from tempo_core.spec import PAPER, FrameGeometry
from tests.support.programs import program
from tests.support.videos import make_video

# As of a process that was started on a machine with no more: nothing gives it back.
LITTLE_MEMORY = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (1 << 28, 1 << 28))"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "video.mp4", seconds=4, rate="10", size=(96, 64))


def frames_of(path: Path) -> SegmentReader:
    return read_segments(path, probe(path), PAPER, FrameGeometry())


def test_a_decoder_that_crashes_is_named(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPO_FFMPEG", str(ends_with(tmp_path, "kill -SEGV $$")))
    with pytest.raises(DecoderDied, match=r"^ffmpeg crashed \(SIGSEGV\)"):
        list(frames_of(video))


def ends_with(folder: Path, script: str) -> Path:
    """An ffmpeg that tells its version, and does this when it is to decode."""
    return program(folder / "ffmpeg", f'case "$*" in *-version*) exit 0 ;; esac\n{script}')


@pytest.mark.parametrize("script", ["kill -KILL $$", "exit 126", "exit 127", "exit 255"])
def test_a_decoder_that_did_not_end_by_itself_is_not_the_files_fault(
    script: str, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPO_FFMPEG", str(ends_with(tmp_path, script)))
    with pytest.raises(DecoderDied):
        list(frames_of(video))


@pytest.mark.parametrize("script", ["exit 127", "kill -SEGV $$"])
def test_a_decoder_that_runs_for_no_file_is_no_files_fault(
    script: str, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPO_FFMPEG", str(program(tmp_path / "ffmpeg", script)))
    with pytest.raises(ProgramError, match="does not run"):
        list(frames_of(video))


@pytest.mark.parametrize("reason", ["Input/output error", "No such file or directory", "Stale file handle"])
def test_a_file_that_the_decoder_could_not_reach_is_a_source_that_cannot_be_read(
    reason: str, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"echo '[in#0 @ 0x55] Error opening input: {reason}' >&2; exit 251"
    monkeypatch.setenv("TEMPO_FFMPEG", str(ends_with(tmp_path, script)))
    with pytest.raises(SourceError, match=reason):
        list(frames_of(video))


def test_a_decoder_that_gets_no_memory_is_not_the_files_fault(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "echo 'Error opening input: Cannot allocate memory' >&2; exit 244"
    monkeypatch.setenv("TEMPO_FFMPEG", str(ends_with(tmp_path, script)))
    with pytest.raises(DecoderDied, match="short of"):
        list(frames_of(video))


@pytest.mark.parametrize(
    ("crash", "reason"),
    [
        ("import os\nos.abort()", r"the packet scan crashed \(SIGABRT\)"),
        (f"{LITTLE_MEMORY}\nbytearray(1 << 29)", "cannot be read: MemoryError"),
        ("raise ImportError('libav.so: cannot open shared object file')", "ImportError: libav"),
    ],
)
def test_a_packet_scan_that_crashes_costs_only_its_file(
    crash: str, reason: str, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(crash)
    monkeypatch.setattr("tempo_core.decoding.probing._WORKER", worker)
    with pytest.raises(DecoderDied, match=reason):
        probe(video)


@pytest.mark.parametrize("reason", ["Input/output error", "No such file or directory"])
def test_a_file_that_the_packet_scan_could_not_reach_is_a_source_that_cannot_be_read(
    reason: str, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(f'print(\'{{"error": "{reason}"}}\')')
    monkeypatch.setattr("tempo_core.decoding.probing._WORKER", worker)
    with pytest.raises(SourceError, match=reason):
        probe(video)
