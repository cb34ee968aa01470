"""The most memory that each process of a run takes (Linux): `python -m benchmarks.memory SOURCE LIBRARY RAY MODEL SPEC`
is the run, ``peaks`` watches it and all that descends from it.

The kernel keeps a process's peak resident set (VmHWM), so a look now and then misses only what comes and goes between
two looks. Pages of Ray's object store count for each process that touched them; what is a process's own is RssAnon.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flows.embedded import EMBEDDED_ID
from flows.reporter import Reporter
from flows.request import IndexRequest
from flows.run.indexing import IndexRun

LOOK_S = 0.1
_DEADLINE_S = 1800
_ROLES = (  # by the first of these that the command line holds; Ray writes a task's name into it
    ("ffmpeg", "ffmpeg"),
    ("probe_worker", "probe"),
    ("ray::decode", "decoder"),
    ("ray::EncodingActor", "actor"),
    ("ray::encoder", "actor"),
    ("ray::open", "actor"),
    ("ray::index", "actor"),
    ("ray::", ""),  # idle, or what belongs to Ray
    ("benchmarks.memory", "driver"),
)

Peaks = dict[str, dict[str, int]]


def peaks(source: Path, library: str, ray: str, model: str | None, spec: str) -> Peaks:
    """By role, the most bytes of one process: ``peak`` resident, ``own`` not shared. The run happens meanwhile."""
    command = [sys.executable, "-m", "benchmarks.memory", str(source), library, ray, model or EMBEDDED_ID, spec]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    found: Peaks = defaultdict(lambda: {"peak": 0, "own": 0})
    roles: dict[int, str] = {}
    deadline = time.monotonic() + _DEADLINE_S
    try:
        while run.poll() is None and time.monotonic() < deadline:
            for pid in _tree(run.pid):
                _look(pid, roles, found)
            time.sleep(LOOK_S)
    finally:
        run.kill()
    if run.wait():
        raise SystemExit(f"the run whose memory was watched ended with {run.returncode}")
    return dict(found)


def _look(pid: int, roles: dict[int, str], found: Peaks) -> None:
    with suppress(OSError, ValueError):  # it ended meanwhile
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        role = next((role for mark, role in _ROLES if mark in words), "")
        role = roles[pid] = role or roles.get(pid, "")
        status = Path(f"/proc/{pid}/status").read_text()
        if role:
            best = found[role]
            best["peak"] = max(best["peak"], _kilobytes(status, "VmHWM"))
            best["own"] = max(best["own"], _kilobytes(status, "RssAnon"))


def _kilobytes(status: str, field: str) -> int:
    line = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(line[1]) * 1024 if line else 0


def _tree(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                children[_parent(entry)].append(int(entry.name))
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children[pid]


def _parent(process: Path) -> int:
    return int(process.joinpath("stat").read_text().rpartition(")")[2].split()[1])  # behind the name: state, parent


def main() -> None:
    """One run, as `tempo index` would do it."""
    source, library, ray, model, spec = sys.argv[1:]
    request = IndexRequest(sources=[source], library=library, model=model, spec=spec, settle_s=0.0, ray=ray)
    report = IndexRun(request, Reporter()).run()
    sys.exit(report.summary.counts["indexed"] != 1)


if __name__ == "__main__":
    main()
