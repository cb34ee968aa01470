"""Whose fault it is that a file could not be read: its own bytes', or those of what lies around it.

FFmpeg hands on what the system answered in the system's own words, at the end of a message. Some of these never come
from bytes: a file that is not there, a file server that went away, memory that is short. "Input/output error" is said
of both by some demuxers, so there the file itself is read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from tempo_core.errors import DecoderDied, SourceError

_NOT_REACHED = frozenset(
    {"ENOENT", "EACCES", "EPERM", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ETIMEDOUT"}
)
_SHORT = frozenset({"ENOMEM", "EMFILE", "ENFILE"})
_BLOCK = 1 << 22


def _texts(names: Iterable[str]) -> frozenset[str]:
    return frozenset(os.strerror(getattr(errno, name)) for name in names if hasattr(errno, name))


_NOT_REACHED_TEXTS, _SHORT_TEXTS, _BROKEN_TEXT = _texts(_NOT_REACHED), _texts(_SHORT), os.strerror(errno.EIO)


def refuse_circumstances(path: str, messages: Iterable[str], nothing_came: bool = False) -> None:
    """Raises where ``messages`` of a program that read ``path`` show that its bytes are not to blame.

    SourceError where it could not be reached or read, DecoderDied where the system was short of something.
    ``nothing_came``: the program gave next to nothing of the file, so that what it says is believed as it is; else a
    damaged file, which some demuxers describe in the same words, keeps what could be read of it.
    """
    is_broken = False
    for message in messages:
        reason = message.rsplit(": ", 1)[-1].rstrip(". ")
        if reason in _NOT_REACHED_TEXTS or (reason == _BROKEN_TEXT and nothing_came):
            raise SourceError(f"{path} could not be read: {message}")
        if reason in _SHORT_TEXTS and nothing_came:
            raise DecoderDied(f"the machine was short of something while {path} was read: {message}")
        is_broken = is_broken or reason == _BROKEN_TEXT
    if is_broken:
        read_through(path)


def read_through(path: str) -> None:
    """SourceError unless every byte of the file can be read."""
    try:
        with Path(path).open("rb", buffering=0) as file:
            while file.read(_BLOCK):
                pass
    except OSError as error:
        raise SourceError(f"{path} could not be read: {error.strerror or error}") from error
