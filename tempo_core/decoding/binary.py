"""Which ffmpeg is run, and what it can do. No root is needed: a Python package brings one."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from contextlib import suppress
from functools import lru_cache

from tempo_core.errors import DecodeTimeout, ProgramError
from tempo_core.local_paths import with_home

_VARIABLE = "TEMPO_FFMPEG"
_CHECK_DEADLINE_S = 30.0


def find_ffmpeg() -> str:
    """The ffmpeg to run: from ``TEMPO_FFMPEG``, then PATH, then the imageio-ffmpeg wheel.

    ProgramError where there is none, or where the variable names something that cannot be run.
    """
    user_choice = os.environ.get(_VARIABLE)
    if user_choice:
        return _runnable(user_choice)
    program = shutil.which("ffmpeg") or _from_wheel()
    if program is None:
        raise ProgramError(f"no ffmpeg found: set {_VARIABLE}, put ffmpeg on PATH, or `pip install imageio-ffmpeg`")
    return program


def check_ffmpeg() -> None:
    """ProgramError unless there is an ffmpeg that runs. Called before a run: without it every video would fail."""
    filters_of(find_ffmpeg())


def _runnable(user_choice: str) -> str:
    program = shutil.which(str(with_home(user_choice)))
    if program is None:
        raise ProgramError(f"{_VARIABLE} is {user_choice!r}, which is no program that can be run")
    return program


def _from_wheel() -> str | None:
    try:
        wheel = importlib.import_module("imageio_ffmpeg")
        return str(wheel.get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # RuntimeError: the wheel of this platform has no binary
        return None


def expect_running(ffmpeg: str) -> None:
    """ProgramError where ffmpeg does not even tell its version: then no file is why it ended."""
    with suppress(DecodeTimeout):  # too busy to tell
        _listing(ffmpeg, "-version")


@lru_cache(maxsize=8)
def filters_of(ffmpeg: str) -> frozenset[str]:
    """The names of the filters that this ffmpeg was built with. ProgramError where it does not run, DecodeTimeout where
    the machine is too busy for it to start."""
    rows = (line.split() for line in _listing(ffmpeg, "-filters").splitlines())
    return frozenset(row[1] for row in rows if len(row) >= 3 and "->" in row[2])


def _listing(ffmpeg: str, option: str) -> str:
    command = [ffmpeg, "-hide_banner", option]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_CHECK_DEADLINE_S, check=True
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise DecodeTimeout(f"{ffmpeg} did not start within {_CHECK_DEADLINE_S:.0f} s: the machine is busy") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramError(f"{ffmpeg} does not run: {error}") from error
