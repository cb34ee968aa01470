"""The right to write a library, held by one writer at a time, and how its holder is named to others."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Protocol

from tempo_core.errors import LibraryBusy


class Lease(Protocol):
    """The right to write, held by one writer per library at a time."""

    def acquire(self, wait_s: float) -> None:
        """Take it, or raise LibraryBusy naming the holder after ``wait_s`` seconds."""

    def check(self) -> None:
        """LibraryBusy if it was lost; called before each commit."""

    def release(self) -> None:
        """Give it back; nothing happens where it is not held."""


def holder() -> dict[str, str | int | float]:
    """This process, as it is written into a lease that it takes."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}


def busy(library: str, written: str) -> LibraryBusy:
    """The error that names the holder; ``written``: the JSON of ``holder`` in the lease, which may be damaged."""
    try:
        record = json.loads(written)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["since"]))
        name = f"process {record['pid']} on {record['host']}, since {since}"
    except (ValueError, KeyError, TypeError):
        name = "another process"
    return LibraryBusy(f"{library} is being written by {name}; wait for it to end, or stop it")
