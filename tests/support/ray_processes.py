"""A process tree as Linux knows it: who descends from whom, and where each listens."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
LISTEN = "0A"
GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def descendants(pid: int) -> dict[int, int]:
    """Each process below ``pid``, and when it was started: a number is used again, but not with the same start."""
    parents, starts = {}, {}
    for child in _pids():
        with suppress(*GONE):
            fields = (PROC / str(child) / "stat").read_text().rpartition(")")[2].split()
            parents[child], starts[child] = int(fields[1]), int(fields[19])
    found: set[int] = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: starts[child] for child in found - {pid}}


def alive(processes: dict[int, int]) -> set[int]:
    """Those of ``descendants`` that still run; one that is dead and only not waited for does not."""
    left = set()
    for pid, start in processes.items():
        with suppress(*GONE):
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and int(fields[19]) == start:
                left.add(pid)
    return left


def titles(pids: Iterable[int]) -> dict[int, str]:
    """What each process calls itself, its command line if nothing else; those that are gone are left out."""
    found = {}
    for pid in pids:
        with suppress(*GONE):
            found[pid] = (PROC / str(pid) / "cmdline").read_text().replace("\0", " ").strip()
    return found


def listening(pids: set[int]) -> set[str]:
    """The addresses that these processes listen at, as HOST:PORT."""
    inodes = set()
    for pid in pids:
        with suppress(*GONE):
            for descriptor in (PROC / str(pid) / "fd").iterdir():
                with suppress(*GONE):
                    inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [row for name in ("tcp", "tcp6") for row in (PROC / "net" / name).read_text().splitlines()[1:]]
    sockets = (row.split() for row in rows)
    return {_address(fields[1]) for fields in sockets if fields[3] == LISTEN and fields[9] in inodes}


def _address(text: str) -> str:
    digits, _, port = text.partition(":")
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    host = ipaddress.ip_address(socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed))
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return f"{mapped or host}:{int(port, 16)}"


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
