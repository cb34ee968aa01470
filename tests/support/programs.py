"""Shell scripts that stand in for a program, and whether a process is still there."""

from __future__ import annotations

from pathlib import Path


def program(path: Path, script: str) -> Path:
    """A program that the shell runs."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def is_alive(pid: int) -> bool:
    """False once it has ended, also where nobody has fetched its status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
