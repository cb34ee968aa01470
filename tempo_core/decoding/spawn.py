"""Starts a process that the kernel kills when this one dies, by whatever end (Linux; elsewhere it lives on).

A closed pipe ends only what writes: a decoder that hangs would outlive a killed caller for ever. Linux's parent-death
signal is set by a launcher, since code between fork and exec is unsafe with threads; and it is sent when the *thread*
that forked ends, so one thread that never ends forks for all others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue

Process = subprocess.Popen[bytes]
_Orders = SimpleQueue[tuple[list[str], "Future[Process]"]]

_PYTHON_LAUNCHER = Path(__file__).with_name("launcher.py")
_QUESTION_DEADLINE_S = 10.0
# Behind the signal: a caller who died before it was set sends none.
_IF_PARENT_LIVES = 'test "$PPID" = "$0" && exec "$@"'


def spawn(command: Sequence[str]) -> Process:
    """Runs ``command`` in a session of its own, with pipes from its output and messages. OSError where it cannot."""
    if sys.platform != "linux":
        return _started(list(command))
    started: Future[Process] = Future()
    _spawner(os.getpid()).put(([*_launcher(), *command], started))
    try:
        return started.result()
    except BaseException:  # an interrupt while waiting: nobody would hold the process
        started.add_done_callback(_end)
        raise


def _end(started: Future[Process]) -> None:
    if started.exception() is None:
        with started.result() as process:
            process.kill()


def _started(command: list[str]) -> Process:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


@lru_cache(maxsize=1)
def _spawner(pid: int) -> _Orders:
    """The orders of this process's spawning thread (a forked process has its own: threads are not inherited)."""
    orders: _Orders = SimpleQueue()
    threading.Thread(target=_serve, args=(orders,), daemon=True, name=f"tempo-spawner-{pid}").start()
    return orders


def _serve(orders: _Orders) -> None:
    while True:
        command, started = orders.get()
        try:
            started.set_result(_started(command))
        except OSError as error:
            started.set_exception(error)
        del started  # or the last process would be held until the next order


def _launcher() -> list[str]:
    """What stands before a command so that it dies with this process: 2 ms more by ``setpriv``, 17 by Python."""
    parent = str(os.getpid())
    setpriv = _setpriv()
    if setpriv is not None:
        return [setpriv, "--pdeathsig", "KILL", "/bin/sh", "-c", _IF_PARENT_LIVES, parent]
    return [sys.executable, "-I", "-S", str(_PYTHON_LAUNCHER), parent]


@lru_cache(maxsize=1)
def _setpriv() -> str | None:
    """util-linux's program, part of nearly every Linux (busybox's knows no such signal); None without it."""
    found = shutil.which("setpriv")
    if found is None:
        return None
    probe = [found, "--pdeathsig", "KILL", "/bin/sh", "-c", "exit 0"]
    try:
        subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, timeout=_QUESTION_DEADLINE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found
