"""Ray of this machine: on loopback only, silent, gone with whoever started it; a missing cluster is reported."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flows.on_ray.ray_start import _ray_folder, connect_ray, start_ray
from tempo_core.errors import TempoError, UsageError
from tests.support import ROOT
from tests.support.ray_processes import alive, descendants, listening, titles
from tests.support.waiting import wait_until

AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # they report on a node, and do no work
pytestmark = pytest.mark.ray

STARTED = """
import os, signal, sys
import ray
from flows.on_ray.ray_start import start_ray

signal.signal(signal.SIGTERM, lambda number, frame: print("TERM is mine", flush=True))

@ray.remote
def work():
    print("a worker's word")
    raise ValueError("a worker's error")

with start_ray(num_cpus=1) as dashboard:
    try:
        ray.get(work.remote())
    except ValueError:
        pass
    print(dashboard, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    sys.stdin.read()
"""


def driver() -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", STARTED], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    if read := process.stdout.readline():
        return read.strip()
    raise AssertionError(process.communicate(timeout=30)[1])


@pytest.fixture(scope="module")
def started() -> Iterator[subprocess.Popen[str]]:
    """A driver whose Ray has run a task that failed."""
    process = driver()
    yield process
    process.kill()
    process.communicate(timeout=30)


def test_ray_of_this_machine_listens_on_loopback_only_and_ends_with_a_killed_driver(
    started: subprocess.Popen[str],
) -> None:
    dashboard = line(started)
    assert line(started) == "TERM is mine"  # Ray takes the signal for itself
    assert (Path.home() / ".ray" / "auth_token").stat().st_mode & 0o077 == 0  # other users may not read it
    processes = descendants(started.pid)
    addresses = listening({started.pid, *processes})
    assert dashboard.removeprefix("http://") in addresses
    assert_entered_by_its_user_alone({started.pid, *processes})
    assert len(addresses) > 8
    assert [address for address in addresses if not address.startswith(("127.0.0.1:", "::1:"))] == []
    os.kill(started.pid, signal.SIGKILL)
    _, said = started.communicate(timeout=30)
    assert said == ""  # of workers' output and errors, nothing runs into the user's terminal
    agents = {pid: processes[pid] for pid, title in titles(processes).items() if title in AGENTS}
    assert len(agents) == 2
    works = {pid: start for pid, start in processes.items() if pid not in agents}
    assert wait_until(lambda: not alive(works), within_s=20), titles(alive(works))
    for pid in alive(agents):  # they try for 60 s to tell the dead driver that its Ray is dead
        os.kill(pid, signal.SIGKILL)


def assert_entered_by_its_user_alone(pids: set[int]) -> None:
    """Each socket that these processes made lies below a folder of mode 0700."""
    sockets = [row.split()[-1] for row in Path("/proc/net/unix").read_text().splitlines() if "/sockets/" in row]
    folders = {folder for path in sockets if in_arguments(folder := Path(path).parents[3], pids)}
    assert folders
    for folder in folders:
        assert folder.name.startswith("tempo-scratch-")
        assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (0o700, os.getuid())


def in_arguments(folder: Path, pids: set[int]) -> bool:
    return any(str(folder).encode() in text for pid in pids if (text := arguments(pid)))


def arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_the_folder_of_ray_is_short_enough_for_its_sockets_and_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with _ray_folder() as option:
        folder = Path(option["_temp_dir"])
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert len(f"{folder}/session_2026-11-27_22-36-52_199477_4194304/sockets/plasma_store") <= 103
        (folder / "session").mkdir(parents=True)
    assert not folder.parent.exists()


def test_ray_of_this_machine_may_use_the_cpus_that_its_container_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own count is 0 where less than one is allowed."""
    asked: dict[str, Any] = {}

    def init(**options: Any) -> None:
        asked.update(options)
        raise RuntimeError("enough was seen")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("flows.on_ray.ray_start.cpu_count", lambda: 3)
    with pytest.raises(TempoError, match="enough was seen"), start_ray():
        pass
    assert asked["num_cpus"] == 3


@pytest.mark.parametrize("address", ["garbage", "host", "host:port", "http://127.0.0.1:8265", "ray://127.0.0.1:10001"])
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT of a cluster"), connect_ray(address):
        pass


def test_a_cluster_that_is_not_there_is_reported_at_once() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    with pytest.raises(TempoError, match=rf"no Ray cluster at 127.0.0.1:{port}.*head node up"):
        with connect_ray(f"127.0.0.1:{port}"):
            pass


def test_something_else_at_the_address_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.on_ray.ray_start.CONNECT_DEADLINE_S", 1.0)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(TempoError, match=f"{address}: it did not answer in 1 s"), connect_ray(address):
            pass
