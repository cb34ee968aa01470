"""Which ffmpeg is run, and what it can do. No root is needed: a wheel carries one."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from tempo_core.errors import TempoError

ENVIRONMENT_VARIABLE = "TEMPO_FFMPEG"
_QUESTION_DEADLINE_S = 30.0


def find_ffmpeg() -> str:
    """The ffmpeg to run: from ``TEMPO_FFMPEG``, then PATH, then the imageio-ffmpeg wheel.

    TempoError where there is none, or where the variable names something that cannot be run.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return _runnable(named)
    found = shutil.which("ffmpeg") or _from_wheel()
    if found is None:
        raise TempoError(
            f"no ffmpeg found: set {ENVIRONMENT_VARIABLE}, put ffmpeg on PATH, or `pip install imageio-ffmpeg`"
        )
    return found


def check_ffmpeg() -> None:
    """TempoError unless there is an ffmpeg that runs: asked before a run, since without it every video would fail."""
    filters_of(find_ffmpeg())


def _runnable(named: str) -> str:
    found = shutil.which(str(Path(named).expanduser()))
    if found is None:
        raise TempoError(f"{ENVIRONMENT_VARIABLE} is {named!r}, which is no program that can be run")
    return found


def _from_wheel() -> str | None:
    try:
        wheel = importlib.import_module("imageio_ffmpeg")
        return str(wheel.get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # RuntimeError: the wheel of this platform carries no binary
        return None


@lru_cache(maxsize=8)
def filters_of(ffmpeg: str) -> frozenset[str]:
    """The names of the filters that this ffmpeg was built with."""
    try:
        listed = subprocess.run(
            [ffmpeg, "-hide_banner", "-filters"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_QUESTION_DEADLINE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise TempoError(f"{ffmpeg} does not run: {error}") from error
    rows = (line.split() for line in listed.stdout.splitlines())
    return frozenset(row[1] for row in rows if len(row) >= 3 and "->" in row[2])
