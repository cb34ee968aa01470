"""What a video's failure is, and the only function that turns an error into one.

A video that fails costs its own entry only. An error that is no video's fault (a full disk, a lost lease, a broken
model) ends the run; what was committed stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tempo_core.errors import (
    CheckpointError,
    CorruptPart,
    DecoderDied,
    GpuLost,
    LibraryError,
    SourceChanged,
    SourceError,
    TempoError,
    UsageError,
    VideoError,
)

log = logging.getLogger(__name__)
Value = TypeVar("Value")

FETCH, CHANGED, KEPT, DECODE, ENCODE = "fetch", "changed", "kept", "decode", "encode"
MEMORY, CRASH = "memory", "crash"


@dataclass(frozen=True)
class Failure:
    """Why a video is not indexed. ``step`` that failed: fetch, changed (the file is being written), kept (what the
    library kept is damaged), decode, encode, memory, or crash (the process that worked on it died)."""

    step: str
    reason: str


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
    """The library, the model or the command is at fault. A damaged part costs only the videos that use it."""
    if isinstance(error, CorruptPart):
        return False
    return isinstance(error, (LibraryError, CheckpointError, UsageError))


def _step(error: Exception) -> str:
    """The step that is recorded; ``plan.make_plan`` tries FETCH and MEMORY again in each run."""
    if isinstance(error, SourceChanged):
        return CHANGED
    if isinstance(error, SourceError):
        return FETCH
    if isinstance(error, CorruptPart):
        return KEPT
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without loading torch
        return MEMORY
    if isinstance(error, DecoderDied):
        return CRASH
    return DECODE if isinstance(error, VideoError) else ENCODE


def _reason(error: Exception) -> str:
    if isinstance(error, TempoError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}"
