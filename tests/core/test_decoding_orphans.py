"""A process that is killed takes its decoder and its packet scan along, also when they hang and never write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tempo_core.decoding import spawn as spawn_module
from tempo_core.decoding.spawn import spawn
from tests.support.programs import is_alive, program
from tests.support.videos import make_video

PATIENCE_S = 20.0
HANGING = "echo $$ > {pid}; exec sleep 1000"  # a program that never writes: no closed pipe would end it
READING = """
import sys, threading, time
from tempo_core.decoding import probe, read_segments, probing
from tempo_core.spec import PAPER, FrameGeometry
probing._WORKER = sys.argv[2] or probing._WORKER
read = lambda: list(read_segments(sys.argv[1], probe(sys.argv[1]), PAPER, FrameGeometry()))
threading.Thread(target=read).start()
"""
WITHOUT_SETPRIV = "from tempo_core.decoding import spawn; spawn._setpriv = lambda: None\n"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "video.mp4", size=(64, 64))


def pid_in(file: Path) -> int:
    """The process id that a hanging program wrote; AssertionError where none does."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if file.exists() and (text := file.read_text()).endswith("\n"):
            return int(text)
        time.sleep(0.01)
    raise AssertionError("the program was never started")


def ends_soon(pid: int) -> bool:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and is_alive(pid):
        time.sleep(0.01)
    return not is_alive(pid)


def killed_while_it_waits(script: str, *arguments: str, pid_file: Path, ffmpeg: Path | None) -> int:
    """Runs ``script`` until its child hangs, kills it with -9, and returns the child's process id."""
    environment = os.environ if ffmpeg is None else {**os.environ, "TEMPO_FFMPEG": str(ffmpeg)}
    with subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment) as caller:
        try:
            child = pid_in(pid_file)
            assert is_alive(child)
        finally:
            caller.send_signal(signal.SIGKILL)
    return child


@pytest.mark.parametrize("preparation", ["", WITHOUT_SETPRIV], ids=["setpriv", "python"])
def test_a_hanging_ffmpeg_dies_with_the_process_that_reads_it(tmp_path: Path, video: Path, preparation: str) -> None:
    hanging = program(tmp_path / "ffmpeg", HANGING.format(pid=tmp_path / "pid"))
    script = preparation + READING
    assert ends_soon(killed_while_it_waits(script, str(video), "", pid_file=tmp_path / "pid", ffmpeg=hanging))


def test_a_hanging_packet_scan_dies_with_the_process_that_waits_for_it(tmp_path: Path, video: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(f"import os, time\nprint(os.getpid(), file=open({str(tmp_path / 'pid')!r}, 'w'), flush=True)\n")
    with worker.open("a") as file:
        file.write("time.sleep(1000)\n")
    child = killed_while_it_waits(READING, str(video), str(worker), pid_file=tmp_path / "pid", ffmpeg=None)
    assert ends_soon(child)


def test_a_child_outlives_the_thread_that_asked_for_it() -> None:
    """The kernel's signal comes when the forking thread ends; readers begin in one thread and go on in another."""
    started: list[subprocess.Popen[bytes]] = []
    asking = threading.Thread(target=lambda: started.append(spawn(["/bin/sh", "-c", "read line; echo done"])))
    asking.start()
    asking.join()
    with started[0] as process:
        assert process.communicate(timeout=PATIENCE_S) == (b"done\n", b"")


@pytest.mark.parametrize("python", [False, True], ids=["setpriv", "python"])
def test_a_child_whose_parent_died_before_it_began_never_runs(
    tmp_path: Path, python: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if python:
        monkeypatch.setattr(spawn_module, "_setpriv", lambda: None)
    monkeypatch.setattr(os, "getpid", lambda: 1)  # a parent that is not its own
    command = [*spawn_module._launcher(), "/bin/sh", "-c", f"echo ran > {tmp_path}/ran"]
    assert subprocess.run(command, timeout=PATIENCE_S, check=False).returncode != 0
    assert not (tmp_path / "ran").exists()


def test_a_program_that_does_not_run_ends_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "program"
    broken.write_bytes(b"\x7fELF broken")
    broken.chmod(0o755)
    monkeypatch.setattr(spawn_module, "_setpriv", lambda: None)
    with spawn([str(broken)]) as process:
        output, messages = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1 and output == b"" and b"does not run: Exec format error" in messages


def test_a_forked_process_can_start_children_too() -> None:
    script = (
        "import os; from tempo_core.decoding.spawn import spawn\n"
        "spawn(['/bin/true']).communicate()\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(spawn(['/bin/sh', '-c', 'exit 7']).wait(10))\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=PATIENCE_S, check=False).returncode == 7


@pytest.mark.timeout(PATIENCE_S)
def test_an_error_of_any_kind_reaches_the_one_who_asked_and_the_next_child_starts() -> None:
    with pytest.raises(ValueError, match="null byte"):
        spawn(["/bin/echo", "a name\0with a zero byte"])
    with spawn(["/bin/sh", "-c", "exit 7"]) as process:
        assert process.wait(PATIENCE_S) == 7


def test_an_interrupt_while_a_child_is_being_started_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    start, interrupted, started = spawn_module._start, threading.Event(), list[subprocess.Popen[bytes]]()

    def interrupt(*_: object) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def start_late(command: list[str], stdin: int) -> subprocess.Popen[bytes]:
        while not interrupted.wait(0.05):  # again, where the main thread was not waiting yet
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        started.append(start(command, stdin))
        return started[-1]

    monkeypatch.setattr(spawn_module, "_start", start_late)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            spawn(["/bin/sleep", "1000"])
        spawn(["/bin/true"]).communicate()  # children are started in turn, so the first one is over now
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert started[0].returncode == -signal.SIGKILL


def test_a_thread_that_outlives_the_main_thread_keeps_its_child_and_can_start_others() -> None:
    script = (
        "import threading; from tempo_core.decoding.spawn import spawn\n"
        "child = spawn(['/bin/sh', '-c', 'read line; echo first'])\n"
        "def go_on():\n"
        "    threading.main_thread().join()\n"
        "    print(child.communicate(timeout=10), spawn(['/bin/echo', 'second']).communicate(timeout=10))\n"
        "threading.Thread(target=go_on).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=PATIENCE_S, check=False, capture_output=True)
    assert done.stdout == b"(b'first\\n', b'') (b'second\\n', b'')\n"
