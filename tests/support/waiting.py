"""Waiting for what another process does, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.support.tempo_cli import DEADLINE_S


def wait_until(condition: Callable[[], bool], within_s: float = DEADLINE_S, step_s: float = 0.05) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + within_s
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(step_s)
    return found


def wait_for_writer(library: Path, pid: int) -> None:
    """Until that process holds the lease."""
    lease = library / "lease.json"
    assert wait_until(lambda: lease.exists() and f'"pid": {pid}' in lease.read_text())
