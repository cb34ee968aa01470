"""No file hangs or kills a run: deadlines, kills, clean ends, and memory that does not grow with the video."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tempo_core.decoding import SegmentReader, VideoInfo, probe, read_segments, scanning
from tempo_core.errors import DecoderDied, DecodeTimeout, UsageError, VideoError
from tempo_core.spec import NAMED_SPECS, PAPER, FrameGeometry, IndexSpec
from tests.support.programs import is_alive, program
from tests.support.videos import make_video

SMALL = (96, 64)
EVERY_FRAME = IndexSpec(frames_per_second=10.0, max_frames=None)  # of ``long_video``


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More frames than a pipe holds, so that ffmpeg lives until it is read to the end."""
    path = make_video(tmp_path_factory.mktemp("long") / "long.mp4", seconds=60, rate="10", size=SMALL)
    probe(path)  # starts what forks the packet scans of all tests
    return path


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every test here ends without a child process, alive or dead, and without an open file more."""
    before = open_files()
    yield
    for key in [key for key in scanning._servers if not key[1].endswith("probe_worker.py")]:
        scanning._servers.pop(key).stop()  # of a worker that the test made
    gc.collect()
    assert children() == []
    assert open_files() <= before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> list[int]:
    """Child processes of this one's threads, zombies included; without those that are made to outlive their test."""
    tasks = Path("/proc/self/task").iterdir()
    pids = [pid for task in tasks for pid in text_if_there(task / "children").split()]
    return [int(pid) for pid in pids if not re.search("multiprocessing|scan_server", command_line(pid))]


def command_line(pid: str) -> str:
    return text_if_there(Path(f"/proc/{pid}/cmdline"))


def text_if_there(file: Path) -> str:
    """Its text, none where its thread or process has just ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return file.read_text()
    return ""


def dense(path: Path) -> SegmentReader:
    return read_segments(path, probe(path), NAMED_SPECS["dense"], FrameGeometry())


@pytest.fixture
def impatient(long_video: Path, monkeypatch: pytest.MonkeyPatch) -> SegmentReader:
    """A reader of ``long_video`` that waits 1.1 s for a frame."""
    monkeypatch.setenv("TEMPO_STALL_S", "0.1")  # and ten times the tenth of a second to the next sample
    return read_segments(long_video, probe(long_video), EVERY_FRAME, FrameGeometry())


def test_a_stopped_ffmpeg_is_killed_when_it_gives_nothing(impatient: SegmentReader) -> None:
    next(impatient)
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(DecodeTimeout, match="ffmpeg gave nothing for 1 s and was stopped"):
        list(impatient)
    assert not is_alive(pid)


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan", "inf"])
def test_a_stall_that_is_no_duration_is_refused(given: str, long_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPO_STALL_S", given)
    with pytest.raises(UsageError, match=f"TEMPO_STALL_S={given}: give the seconds"):
        dense(long_video)


def test_a_reader_that_is_closed_stops_ffmpeg(long_video: Path) -> None:
    with dense(long_video) as reader:
        next(reader)
        (pid,) = children()
    assert not is_alive(pid)
    assert list(reader) == []


def test_a_reader_that_is_forgotten_stops_ffmpeg(long_video: Path) -> None:
    reader = dense(long_video)
    next(reader)
    (pid,) = children()
    del reader
    gc.collect()
    assert not is_alive(pid)


def test_a_reader_that_was_never_begun_starts_nothing(long_video: Path) -> None:
    reader = dense(long_video)
    assert children() == []
    reader.close()


def test_an_interrupt_stops_ffmpeg(long_video: Path) -> None:
    reader = dense(long_video)
    next(reader)
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        list(reader)
    assert not is_alive(pid)


class Termination(BaseException):
    """As Prefect raises it on SIGTERM."""


def test_an_interrupt_of_another_kind_stops_ffmpeg(long_video: Path) -> None:
    def terminate(*_: object) -> None:
        raise Termination

    reader = dense(long_video)
    next(reader)
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)
    before = signal.signal(signal.SIGUSR1, terminate)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        with pytest.raises(Termination):
            list(reader)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not is_alive(pid)


def test_a_decoder_that_hangs_is_killed_with_its_children(
    tmp_path: Path, impatient: SegmentReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = program(tmp_path / "ffmpeg", f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    monkeypatch.setenv("TEMPO_FFMPEG", str(hanging))
    with pytest.raises(DecodeTimeout):
        list(impatient)
    grandchild, end = int((tmp_path / "pid").read_text()), time.monotonic() + 10
    while is_alive(grandchild) and time.monotonic() < end:  # nobody here can wait for it
        time.sleep(0.01)
    assert not is_alive(grandchild)


def test_a_decoder_that_floods_its_messages_does_not_block(
    tmp_path: Path, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood = program(tmp_path / "ffmpeg", "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; echo the reason >&2; exit 1")
    monkeypatch.setenv("TEMPO_FFMPEG", str(flood))
    with pytest.raises(VideoError, match="no frame could be decoded: x"):
        list(dense(long_video))


def test_a_decoder_that_is_killed_half_way_leaves_no_video_with_frames_standing_in(long_video: Path) -> None:
    reader = dense(long_video)
    next(reader)
    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(DecoderDied, match="SIGKILL"):
        list(reader)


def test_a_pipe_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        probe(tmp_path / "pipe.mp4")


def test_a_packet_scan_that_hangs_is_killed_at_its_deadline(
    tmp_path: Path, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.setattr("tempo_core.decoding.probing._WORKER", worker)
    monkeypatch.setattr("tempo_core.decoding.probing._LEAST_DEADLINE_S", 0.6)
    with pytest.raises(DecodeTimeout, match="the packet scan did not finish within 1 s"):
        probe(long_video)


def test_many_readings_leave_nothing_open(long_video: Path) -> None:
    info = probe(long_video)
    for _ in range(3):
        with read_segments(long_video, info, PAPER, FrameGeometry()) as reader:
            next(reader)


def peak_mib(path: Path) -> float:
    """Peak resident memory of a fresh process that reads ``path`` and keeps no frame."""
    script = (
        "import sys; from tempo_core.decoding import probe, read_segments; from tempo_core.spec import *\n"
        "for _ in read_segments(sys.argv[1], probe(sys.argv[1]), NAMED_SPECS['dense'], FrameGeometry()): pass\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    return int(done.stdout) / 1024


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    short = make_video(tmp_path / "short.mp4", seconds=10, rate="2", size=SMALL)
    long = make_video(tmp_path / "long.mp4", seconds=90, rate="2", size=SMALL)
    assert peak_mib(long) - peak_mib(short) < 12  # 160 frames of 384 x 384 more would be 67 MiB if they were kept


def decoder_threads(path: Path, info: VideoInfo, threads: int | None) -> int:
    """How many frame threads ffmpeg's H.264 decoder runs in."""
    with read_segments(path, info, NAMED_SPECS["dense"], FrameGeometry(), threads=threads) as reader:
        next(reader)
        (pid,) = children()
        names = [(task / "comm").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(name.startswith("av:h264:df") for name in names)


def test_the_decoder_uses_as_many_threads_as_it_is_given(long_video: Path) -> None:
    info = probe(long_video)
    assert [decoder_threads(long_video, info, threads) for threads in (1, 5)] == [0, 5]  # one: its own thread


def test_the_decoder_uses_several_threads_unless_there_is_little_to_decode(long_video: Path, tmp_path: Path) -> None:
    large = make_video(tmp_path / "large.mp4", seconds=8, rate="10", size=(640, 480))
    assert decoder_threads(long_video, probe(long_video), None) == 0
    assert decoder_threads(large, probe(large), None) > 0


def test_less_than_one_thread_is_refused(long_video: Path) -> None:
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        read_segments(long_video, probe(long_video), PAPER, FrameGeometry(), threads=0)
