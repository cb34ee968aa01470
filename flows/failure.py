"""What a video's failure is, whose fault it is, and the only function that turns an error into one.

A video that fails costs its own entry only. Where its bytes were read and are wrong, it is left out until it changes.
Where something around it failed (its disk, the machine, a program that was killed), later runs try it again, less often
the more often it failed. An error that is no video's fault at all (a full disk, a lost lease, a broken model, an ffmpeg
that does not run) ends the run; what was committed stays.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tempo_core.errors import (
    CheckpointError,
    CorruptPart,
    DecoderDied,
    DecodeTimeout,
    GpuLost,
    LibraryError,
    NotFinite,
    ProgramError,
    SourceChanged,
    SourceError,
    TempoError,
    UsageError,
    VideoError,
)

log = logging.getLogger(__name__)
Value = TypeVar("Value")

FETCH, CHANGED, KEPT, DECODE, ENCODE = "fetch", "changed", "kept", "decode", "encode"
MEMORY, CRASH, TIMEOUT, UNEXPECTED = "memory", "crash", "timeout", "unexpected"
FILES_FAULT = frozenset({DECODE, ENCODE})  # steps; all others may go well another night
_TRIES = 3  # that are made run after run
_NIGHT_S, _SLACK_S, _MOST_NIGHTS = 86400.0, 43200.0, 8  # slack: a run may begin or reach the video earlier


@dataclass(frozen=True)
class Failure:
    """Why a video is not indexed. ``step`` that failed: fetch, changed (the file is being written), kept (what the
    library kept is damaged), decode, encode, memory, timeout, crash (the process that worked on it died), or
    unexpected (an error that this program does not know)."""

    step: str
    reason: str


def is_passing(step: str) -> bool:
    """Whether what failed in ``step`` was not the file: later runs try it again by themselves."""
    return step not in FILES_FAULT


def due_again(step: str, attempts: int, failed_at: float) -> float:
    """The time, in seconds of the Unix epoch, from which a run tries again what failed ``attempts`` times, last at
    ``failed_at``: at once for three tries, then after two, four and at most eight nights. Infinity: not by itself."""
    if not is_passing(step):
        return math.inf
    if attempts <= _TRIES:
        return 0.0
    return failed_at + min(2.0 ** min(attempts - _TRIES, 30), _MOST_NIGHTS) * _NIGHT_S - _SLACK_S


def attempt(uri: str, work: Callable[[], Value]) -> Value | Failure:
    """The result of ``work`` on the video of ``uri``, or its failure. Errors that end the run are raised."""
    try:
        return work()
    except Exception as error:
        if _ends_the_run(error):
            raise
        if type(error).__name__ == "AcceleratorError":  # torch's, without loading torch
            raise GpuLost(f"{uri}: the GPU stopped computing for this process: {error}") from error
        if not isinstance(error, TempoError):
            log.error("%s: unexpected error", uri, exc_info=error)
        return Failure(_step(error), _reason(error))


def _ends_the_run(error: Exception) -> bool:
    """Library, model, program or command are at fault. A damaged part costs only the videos that use it."""
    if isinstance(error, CorruptPart):
        return False
    return isinstance(error, (LibraryError, CheckpointError, UsageError, ProgramError))


def _step(error: Exception) -> str:
    """The step that is recorded, which tells whose fault it is (``is_passing``)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without loading torch
        return MEMORY
    return next((step for kind, step in _STEPS if isinstance(error, kind)), UNEXPECTED)


_STEPS: tuple[tuple[type[Exception], str], ...] = (
    (SourceChanged, CHANGED),
    (SourceError, FETCH),
    (OSError, FETCH),
    (CorruptPart, KEPT),
    (DecodeTimeout, TIMEOUT),
    (DecoderDied, CRASH),
    (VideoError, DECODE),
    (NotFinite, ENCODE),
)


def _reason(error: Exception) -> str:
    if isinstance(error, TempoError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}"
