"""Nothing leaves the machine unasked: whom every process of a run speaks to is noted, and it is this machine only.

What notes it is preloaded into each process (``connects.c``), so that it hears of Python, C++ and Rust alike.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.environment import QUIET
from tests.support import ROOT
from tests.support.tempo_cli import ended, small_video, start, start_tempo

pytestmark = pytest.mark.ray
ITSELF = {"localhost", "", socket.gethostname()}
LOOPBACK = ipaddress.ip_address("127.0.0.1")
# Ray's dashboard asks its machine's cloud which one it is, reporting or not (docs/operations.md); it tells nothing, and
# asks nobody where this file in the home says.
CLOUD, KNOWN_CLOUD = {"169.254.169.254", "metadata.google.internal"}, "ray_bootstrap_config.yaml"


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    assert compiler, "this test needs a C compiler (Debian: the package gcc)"
    library = tmp_path_factory.mktemp("recorder") / "connects.so"
    source = str(ROOT / "tests" / "support" / "connects.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), source, "-ldl"]
    subprocess.run(command, check=True, timeout=120)
    return library


def noted(log: Path) -> Mapping[str, set[str]]:
    """By process, whom it spoke to."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in log.read_text().splitlines():
        process, _, to = line.rpartition(" ")
        found[process].add(to)
    return found


def outside(found: Mapping[str, set[str]]) -> set[str]:
    return {f"{process} {to}" for process, names in found.items() for to in names if not own(to)}


def own(to: str) -> bool:
    try:
        address = ipaddress.ip_address(to)
    except ValueError:
        return to in ITSELF
    return address.is_loopback or address.is_unspecified or getattr(address, "ipv4_mapped", None) == LOOPBACK


def watched(recorder: Path, log: Path) -> dict[str, str]:
    """The environment of a run that is listened to, with nothing of ours turned off already."""
    return {"LD_PRELOAD": str(recorder), "RAY_LD_PRELOAD_ON_WORKERS": "1", "CONNECTS": str(log)}


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user's shell: no reporting is off but by tempo itself."""
    for name in [*QUIET, "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]:
        monkeypatch.delenv(name, raising=False)


def test_indexing_on_ray_and_searching_speaks_to_this_machine_only(recorder: Path, tmp_path: Path, unset: None) -> None:
    log, library, home = tmp_path / "connects", tmp_path / "lib", tmp_path / "home"
    home.mkdir()
    (home / KNOWN_CLOUD).write_text("provider: {type: local}\n")
    environment = {**watched(recorder, log), "HOME": str(home)}
    video = small_video(tmp_path / "a.mp4", seconds=1)
    indexed = ended(start_tempo("index", video, "--library", library, "--ray", "local", "--json", **environment))
    assert indexed.code == 0, indexed.err
    searched = ended(start_tempo("search", "A number", "--library", library, "--json", **environment))
    assert searched.code == 0, searched.err
    found = noted(log)
    assert {"gcs_server", "raylet", "ray::DashboardAgent", "ray::decode a.mp4"} <= found.keys()  # all were heard
    assert outside(found) == set()


SPEAKS = """
import ray, socket
from flows.on_ray.ray_start import start_ray

@ray.remote
def speak():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lost:
        lost.connect(("192.0.2.1", 9))
    try:
        socket.getaddrinfo("reports.invalid", 443)
    except OSError:
        pass

with start_ray(num_cpus=1):
    ray.get(speak.remote())
"""


def test_whoever_speaks_to_another_machine_is_noted_in_rays_workers_too(recorder: Path, tmp_path: Path) -> None:
    log = tmp_path / "connects"
    done = ended(start([sys.executable, "-c", SPEAKS], **watched(recorder, log)))
    assert done.code == 0, done.err
    spoken = {line.rpartition(" ")[2] for line in outside(noted(log))}
    assert spoken == {"192.0.2.1", "reports.invalid", *CLOUD}


def test_what_a_user_turned_on_stays_on() -> None:
    code = "import os; from flows.environment import prepare; prepare(); print(os.environ['RAY_USAGE_STATS_ENABLED'])"
    done = ended(start([sys.executable, "-c", code], **{**os.environ, "RAY_USAGE_STATS_ENABLED": "1"}))
    assert done.out == "1\n"
