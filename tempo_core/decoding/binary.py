"""Which ffmpeg is run, and what it can do. No root is needed: a Python package brings one."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from functools import lru_cache

from tempo_core.errors import TempoError
from tempo_core.local_paths import with_home

_VARIABLE = "TEMPO_FFMPEG"
_CHECK_DEADLINE_S = 30.0


def find_ffmpeg() -> str:
    """The ffmpeg to run: from ``TEMPO_FFMPEG``, then PATH, then the imageio-ffmpeg wheel.

    TempoError where there is none, or where the variable names something that cannot be run.
    """
    user_choice = os.environ.get(_VARIABLE)
    if user_choice:
        return _runnable(user_choice)
    program = shutil.which("ffmpeg") or _from_wheel()
    if program is None:
        raise TempoError(f"no ffmpeg found: set {_VARIABLE}, put ffmpeg on PATH, or `pip install imageio-ffmpeg`")
    return program


def check_ffmpeg() -> None:
    """TempoError unless there is an ffmpeg that runs. Called before a run, since without it every video would fail."""
    filters_of(find_ffmpeg())


def _runnable(user_choice: str) -> str:
    program = shutil.which(str(with_home(user_choice)))
    if program is None:
        raise TempoError(f"{_VARIABLE} is {user_choice!r}, which is no program that can be run")
    return program


def _from_wheel() -> str | None:
    try:
        wheel = importlib.import_module("imageio_ffmpeg")
        return str(wheel.get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # RuntimeError: the wheel of this platform has no binary
        return None


@lru_cache(maxsize=8)
def filters_of(ffmpeg: str) -> frozenset[str]:
    """The names of the filters that this ffmpeg was built with. TempoError where it does not run."""
    try:
        listing = subprocess.run(
            [ffmpeg, "-hide_banner", "-filters"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_CHECK_DEADLINE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise TempoError(f"{ffmpeg} does not run: {error}") from error
    rows = (line.split() for line in listing.stdout.splitlines())
    return frozenset(row[1] for row in rows if len(row) >= 3 and "->" in row[2])
