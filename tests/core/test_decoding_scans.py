"""One server forks the packet scans of a process: no file costs another, and only a sound one leaves it its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tempo_core.decoding import probe, scanning
from tempo_core.decoding.scan_server import MOST_FILES
from tempo_core.decoding.scanning import Scan, start_scan
from tempo_core.errors import VideoError
from tests.support.videos import make_video
from tests.support.waiting import wait_until

PATIENCE_S = 60.0


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[str]:
    """A worker that does what it is told by the path; its server is gone with the test."""
    script = tmp_path / "worker.py"
    script.write_text("import os, signal, sys, time\nexec(sys.argv[2])\n")
    yield str(script)
    for key in [key for key in scanning._servers if key[1] == str(script)]:
        scanning._servers.pop(key).stop()


def scanned(worker: str, code: str, spare: bool = False) -> tuple[int, bytes, bytes]:
    """(exit status, output, messages) of a scan that runs ``code``."""
    scan = start_scan([worker, "formats", code])
    with closing(scan), scan.stdout as stdout, scan.stderr as stderr:
        ended = scan.wait(PATIENCE_S), stdout.read(), stderr.read()
        if spare:
            scan.spare()
        return ended


def server(worker: str) -> int:
    """The process id of the worker's server."""
    (found,) = (each for key, each in scanning._servers.items() if key[1] == worker)
    return found._process.pid


def test_a_scan_ends_as_the_program_would(worker: str) -> None:
    assert scanned(worker, "print(sys.argv[1]); print('why', file=sys.stderr)") == (0, b"formats\n", b"why\n")
    status, _, messages = scanned(worker, "raise ValueError('broken')")
    assert (status, messages.splitlines()[-1]) == (1, b"ValueError: broken")
    assert scanned(worker, "os.kill(os.getpid(), signal.SIGSEGV)")[0] == -signal.SIGSEGV
    assert scanned(worker, "print(len(sys.stdin.read()))")[1] == b"0\n", "no input that a scan could wait for"


def test_files_are_scanned_by_forks_of_one_server_that_share_nothing(worker: str) -> None:
    code = "print(os.getpid(), 'left' in sys.path); sys.path.append('left')"
    lines = {scanned(worker, code)[1] for _ in range(3)}
    assert len(lines) == 3, "a process each"
    assert all(line.endswith(b"False\n") for line in lines)
    first = server(worker)
    scanned(worker, "os.abort()")
    assert (server(worker), scanned(worker, "pass")[0]) == (first, 0)


def test_a_process_that_is_spared_takes_the_next_file_and_its_own_output(worker: str) -> None:
    code = "print(os.getpid(), sys.argv[2][-1]); print('why', file=sys.stderr)"
    first, second = scanned(worker, f"{code} #1", spare=True), scanned(worker, f"{code} #2")
    assert first[1].split()[0] == second[1].split()[0]
    assert [(status, output.split()[1], messages) for status, output, messages in (first, second)] == [
        (0, b"1", b"why\n"),
        (0, b"2", b"why\n"),
    ]
    assert scanned(worker, f"{code} #3")[1].split()[0] != first[1].split()[0], "it was not spared again"


@pytest.mark.parametrize("end", ["sys.exit(3)", "os.abort()", "held = b'1' * (200 << 20)"])
def test_a_process_that_failed_or_grew_takes_no_other_file(end: str, worker: str) -> None:
    first = scanned(worker, f"print(os.getpid(), flush=True); {end}", spare=True)
    assert int(scanned(worker, "print(os.getpid())")[1]) != int(first[1])


def test_a_spared_process_that_was_killed_or_took_many_files_is_replaced(worker: str) -> None:
    pid = int(scanned(worker, "print(os.getpid())", spare=True)[1])
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not Path(f"/proc/{pid}").exists(), PATIENCE_S)
    pids = [int(scanned(worker, "print(os.getpid())", spare=True)[1]) for _ in range(MOST_FILES + 1)]
    assert len(set(pids)) == 2 and len(set(pids[:MOST_FILES])) == 1


def test_a_file_that_crashes_a_spared_process_is_blamed_alone(worker: str) -> None:
    scanned(worker, "pass", spare=True)
    assert scanned(worker, "os.kill(os.getpid(), signal.SIGSEGV)", spare=True)[0] == -signal.SIGSEGV
    assert scanned(worker, "print(1)") == (0, b"1\n", b"")


def test_a_probe_spares_the_process_of_a_sound_file_only(tmp_path: Path) -> None:
    sound = make_video(tmp_path / "sound.mp4", size=(64, 64))
    (damaged := tmp_path / "damaged.mp4").write_bytes(sound.read_bytes()[:-2000])
    probe(sound)
    (spared,) = spared_pids("probe_worker.py")
    probe(sound)
    assert spared_pids("probe_worker.py") == [spared]
    with pytest.raises(VideoError):
        probe(damaged)
    assert spared_pids("probe_worker.py") == []


def spared_pids(worker: str) -> list[int]:
    """The processes that wait for a file."""
    (found,) = (each for key, each in scanning._servers.items() if key[0] == os.getpid() and key[1].endswith(worker))
    return [process.pid for process in found._spared]


def test_a_scan_that_hangs_holds_up_no_other_and_can_be_killed_with_its_children(worker: str) -> None:
    hanging = start_scan([worker, "formats", "os.system('echo begun; sleep 1000')"])
    with closing(hanging), hanging.stdout as stdout, hanging.stderr:
        assert stdout.read(6) == b"begun\n"
        assert scanned(worker, "print(1)") == (0, b"1\n", b"")
        assert hanging.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            hanging.wait(0.05)
        os.killpg(hanging.pid, signal.SIGKILL)
        assert (hanging.wait(PATIENCE_S), hanging.poll()) == (-signal.SIGKILL, -signal.SIGKILL)
        assert stdout.read() == b"", "no process is left that could write"


def test_many_threads_scan_at_a_time(worker: str) -> None:
    def code(number: int) -> str:
        return f"sys.stdout.write('{number}' * 100_000)"

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda number: outputs_first(start_scan([worker, "formats", code(number)])), range(8)))
    assert results == [(0, str(number).encode() * 100_000) for number in range(8)]


def outputs_first(scan: Scan) -> tuple[int, bytes]:
    with closing(scan), scan.stdout as stdout, scan.stderr:
        output = stdout.read()
        return scan.wait(PATIENCE_S), output


def test_a_server_that_was_killed_is_replaced_and_its_scans_are_over(worker: str) -> None:
    running = start_scan([worker, "formats", "time.sleep(1000)"])
    with closing(running), running.stdout as stdout, running.stderr:
        os.kill(server(worker), signal.SIGKILL)
        assert running.wait(PATIENCE_S) == -signal.SIGKILL
        assert stdout.read() == b"", "the kernel killed it too"
    assert scanned(worker, "print(2)") == (0, b"2\n", b"")


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "server.py"
    broken.write_text("import a_package_that_is_not_there")
    monkeypatch.setattr(scanning, "_SERVER", broken)
    with pytest.raises(VideoError, match="No module named 'a_package_that_is_not_there'"):
        start_scan([str(tmp_path / "worker.py"), "formats", "path"])


def test_an_interrupt_while_a_scan_is_being_started_leaves_none(worker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned(worker, "pass")

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(scanning, "_received", interrupt)
        with pytest.raises(KeyboardInterrupt):
            start_scan([worker, "formats", "time.sleep(1000)"])
    assert scanned(worker, "print(3)")[1] == b"3\n"


def test_a_forked_process_has_a_server_of_its_own(tmp_path: Path) -> None:
    video = make_video(tmp_path / "video.mp4", size=(64, 64))
    script = (
        "import os, sys; from tempo_core.decoding import probe\n"
        "probe(sys.argv[1]); child = os.fork()\n"
        "if child == 0: os._exit(7 if probe(sys.argv[1]).frame_count else 1)\n"
        "status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]); probe(sys.argv[1]); raise SystemExit(status)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(video)], timeout=PATIENCE_S, check=False)
    assert done.returncode == 7


def test_probes_of_one_process_share_a_server(tmp_path: Path) -> None:
    video = make_video(tmp_path / "video.mp4", size=(64, 64))
    before = threading.active_count()
    infos = {probe(video).frame_count for _ in range(3)}
    assert len(infos) == 1
    assert len([key for key in scanning._servers if key[1].endswith("probe_worker.py")]) == 1
    assert threading.active_count() <= before + 1, "the thread that starts processes"
