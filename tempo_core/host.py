"""The memory and CPUs that this process may use: those of the machine, within the limits of its cgroups (v1 and v2).

A container's limits are cgroup limits; sysconf and ``os.cpu_count`` report the whole machine from inside one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path


def memory_bytes() -> int:
    """The machine's memory, or the smallest limit of a cgroup that this process is in."""
    return _memory_bytes(Path("/"))


def cpu_count() -> int:
    """CPUs that this process can keep busy: the least of the machine's, its affinity's and its quota rounded up."""
    return _cpu_count(Path("/"))


def _memory_bytes(root: Path) -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_memory_limits(root)])


def _cpu_count(root: Path) -> int:
    counts = [os.cpu_count() or 1, *_cpu_limits(root)]
    if sys.platform == "linux":
        counts.append(len(os.sched_getaffinity(0)))
    return max(1, min(counts))


def _memory_limits(root: Path) -> list[int]:
    files = ("memory.max", "memory.limit_in_bytes")  # v2, v1
    texts = [_read(folder / file) for folder in _cgroups(root, "memory") for file in files]
    return [int(text) for text in texts if text.isdigit()]  # "max" is no limit


def _cpu_limits(root: Path) -> list[int]:
    """Quotas in whole CPUs, rounded up. "max" (v2) and -1 (v1) are no quota."""
    limits = []
    for folder in _cgroups(root, "cpu"):
        v1 = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
        match (_read(folder / "cpu.max") or v1).split():
            case [quota, period] if quota.isdigit() and period.isdigit():
                limits.append(-(-int(quota) // int(period)))
    return limits


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the process's cgroups and of those around them; the limits of each hold.

    Inside a container, /proc may give a path of the host that is not mounted there: its folders do not exist, and the
    container's own limits stand at the top.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)  # "4:memory:/path" (v1) or "0::/path" (v2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        parts = [] if ".." in path else path.strip("/").split("/")
        yield from (mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
