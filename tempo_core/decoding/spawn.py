"""Starts a process that the kernel kills when this one dies, however it dies (Linux; elsewhere the child lives on).

Without that, a decoder that hangs would outlive a killed caller for ever: a closed pipe ends only programs that write.
The signal is Linux's parent-death signal. A launcher asks for it, since it is unsafe to run code between fork and exec
in a process with threads. And the kernel sends it when the *thread* that forked ends, so one thread, which never ends,
starts all children.

That thread is not a ``ThreadPoolExecutor``'s: those end as soon as the main thread does, and would take along the
decoders of threads that still read.
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
from types import TracebackType

Process = subprocess.Popen[bytes]

_PYTHON_LAUNCHER = Path(__file__).with_name("launcher.py")
_CHECK_DEADLINE_S = 10.0
# Tested once the signal is set: a caller who died before that sends none.
_IF_PARENT_LIVES = 'test "$PPID" = "$0" && exec "$@"'


class _Order:
    """A command to be started, and the future that takes its process or the error that starting it raised.

    As a context manager it hands any error to whoever waits for the future, so that no error ends the starting thread.
    """

    def __init__(self, command: list[str], stdin: int) -> None:
        self.command, self.stdin = command, stdin
        self.started: Future[Process] = Future()

    def __enter__(self) -> _Order:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None:
            self.started.set_exception(error)
        return True


def spawn(command: Sequence[str], stdin: int = subprocess.DEVNULL) -> Process:
    """Runs ``command`` in a session of its own, its output and messages being pipes. OSError where it cannot run.

    ``stdin``: a descriptor for its standard input, else that is empty.
    """
    if sys.platform != "linux":
        return _start(list(command), stdin)
    order = _Order([*_launcher(), *command], stdin)
    try:
        _orders(os.getpid()).put(order)
        return order.started.result()
    except BaseException:  # an interrupt while waiting: nobody would end the process
        order.started.add_done_callback(_end)
        raise


def _end(started: Future[Process]) -> None:
    if started.exception() is None:
        with started.result() as process:
            process.kill()


def _start(command: list[str], stdin: int) -> Process:
    return subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


@lru_cache(maxsize=1)
def _orders(pid: int) -> SimpleQueue[_Order]:
    """The queue of this process's starting thread (``pid``: threads are not inherited, so a fork has its own)."""
    orders = SimpleQueue[_Order]()
    threading.Thread(target=_serve, args=(orders,), daemon=True, name=f"tempo-spawner-{pid}").start()
    return orders


def _serve(orders: SimpleQueue[_Order]) -> None:
    while True:
        with orders.get() as order:
            order.started.set_result(_start(order.command, order.stdin))
        del order  # or the last process would be kept in memory until the next order


def _launcher() -> list[str]:
    """What to put before a command so that it dies with this process. ``setpriv`` takes 2 ms, Python 17."""
    parent = str(os.getpid())
    setpriv = _setpriv()
    if setpriv is not None:
        return [setpriv, "--pdeathsig", "KILL", "/bin/sh", "-c", _IF_PARENT_LIVES, parent]
    return [sys.executable, "-I", "-S", str(_PYTHON_LAUNCHER), parent]


@lru_cache(maxsize=1)
def _setpriv() -> str | None:
    """util-linux's program, part of nearly every Linux; None without it (busybox's has no such option)."""
    program = shutil.which("setpriv")
    if program is None:
        return None
    probe = [program, "--pdeathsig", "KILL", "/bin/sh", "-c", "exit 0"]
    try:
        subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CHECK_DEADLINE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return program
