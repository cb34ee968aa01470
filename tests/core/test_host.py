from __future__ import annotations

import os
from pathlib import Path

import pytest

from tempo_core.host import _cpu_count, _memory_bytes, cpu_count, memory_bytes

MACHINE_CPUS = 16
MACHINE_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.fixture(autouse=True)
def machine_of_16_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: MACHINE_CPUS)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(MACHINE_CPUS)))


def root_with(folder: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A made-up / whose /proc/self/cgroup is ``cgroup`` and whose /sys/fs/cgroup holds ``files``."""
    for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{name}": files[name] for name in files}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/", {"memory.max": "4096"}, 4096),
        ("0::/", {"memory.max": "max", "job/memory.max": "1"}, MACHINE_BYTES),
        ("0::/job/worker", {"memory.max": "max", "job/memory.max": "4096", "job/worker/memory.max": "8192"}, 4096),
        ("0::/job/worker", {"job/memory.max": "max", "job/worker/memory.max": "4096"}, 4096),
        ("0::/a/path/of/the/host", {"memory.max": "4096"}, 4096),
        ("0::/../../outside", {"memory.max": "4096"}, 4096),
        ("4:memory:/job\n0::/", {"memory/job/memory.limit_in_bytes": "4096"}, 4096),
        ("4:memory:/docker/1f52", {"memory/memory.limit_in_bytes": "4096"}, 4096),
        ("4:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, MACHINE_BYTES),
        ("5:cpuset:/job\n4:cpu,memory:/", {"memory/memory.limit_in_bytes": "4096", "cpuset/memory.max": "1"}, 4096),
    ],
)
def test_memory_is_the_smallest_limit_of_the_processs_cgroups(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: int
) -> None:
    assert _memory_bytes(root_with(tmp_path, cgroup, files)) == expected


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "250000 100000"}, 3),
        ("0::/", {"cpu.max": "10000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, MACHINE_CPUS),
        ("0::/", {"cpu.max": "6400000 100000"}, MACHINE_CPUS),
        ("0::/job/worker", {"job/cpu.max": "200000 100000", "job/worker/cpu.max": "400000 100000"}, 2),
        ("1:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"}, 3),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, MACHINE_CPUS),
    ],
)
def test_cpus_are_the_smallest_quota_rounded_up(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: int
) -> None:
    assert _cpu_count(root_with(tmp_path, cgroup, files)) == expected


def test_cpus_are_those_that_the_process_may_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 7})
    assert _cpu_count(tmp_path) == 2


def test_a_machine_without_cgroups_has_no_limits(tmp_path: Path) -> None:
    assert (_memory_bytes(tmp_path), _cpu_count(tmp_path)) == (MACHINE_BYTES, MACHINE_CPUS)


def test_this_process_may_use_some_of_its_machine() -> None:
    assert 0 < memory_bytes() <= MACHINE_BYTES
    assert 1 <= cpu_count() <= MACHINE_CPUS
