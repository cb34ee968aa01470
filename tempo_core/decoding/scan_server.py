"""Forks processes that scan files: ``python scan_server.py WORKER FORMATS``, a socket as standard input.

Starting a Python that imports PyAV takes a hundred times as long as scanning a short clip, and a fork of one a
millisecond. A forked process has one file at a time, and begins as this one is. One that ended well, and is not large,
waits for another file, which takes a third of what a fork costs; the caller lets it go where the file was not sound.

A request is a path, with three descriptors beside it: a socket, and the scan's standard output and error. Over the
socket go the process id, then, once it ended, the exit status (negative for a signal), as native ints. A process that
waits takes the next path and two descriptors from this same socket, and ends where that is closed. The server ends
with its caller, and its scans with it. It imports nothing of this package, so that it starts fast.
"""

from __future__ import annotations

import ctypes
import fractions  # noqa: F401 - what the worker imports is here before the fork
import json  # noqa: F401
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import CodeType

import av
import av.logging
import av.sidedata.sidedata  # noqa: F401

LONGEST_PATH = 1 << 16
STATUS = struct.Struct("=i")
MOST_MEMORY = 3 << 30  # bytes of its own that a scan may take; the rows of the most pictures that it reads are 332 MB
OVER_MEMORY = 75  # the exit status of a scan that would have taken more, of a machine that has it
MOST_FILES = 200  # of one process: what each leaves behind stays small
MOST_LEFT_KB = 192 << 10  # resident at most in all; with PyAV it begins with some 60
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(worker: str, formats: str) -> None:
    """Serves requests until the caller closes its end."""
    code = compile(Path(worker).read_bytes(), worker, "exec")
    control = socket.socket(fileno=os.dup(0))
    ended = signalled()
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, ended], [], [])
        if ended in ready:
            ended.recv(1024)
            reap(running)
        if control not in ready:
            continue
        path, descriptors, *_ = socket.recv_fds(control, LONGEST_PATH, 3)
        if not path:
            return
        pid, status = start(code, [worker, formats, os.fsdecode(path)], descriptors)
        running[pid] = status
        report(status, pid)


def signalled() -> socket.socket:
    """A socket that can be read once a scan has ended."""
    ended, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.detach(), warn_on_full_buffer=False)
    return ended


def start(code: CodeType, arguments: list[str], descriptors: list[int]) -> tuple[int, socket.socket]:
    """(process id, the socket to report to) of a scan; the descriptors are its own from then on."""
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        scan(code, arguments, descriptors, server)
    with suppress(OSError):
        os.setpgid(pid, pid)  # in both, since neither knows which of them comes first
    for descriptor in descriptors[1:]:
        os.close(descriptor)
    return pid, socket.socket(fileno=descriptors[0])


def scan(code: CodeType, arguments: list[str], descriptors: list[int], server: int) -> None:
    """The forked process: becomes the worker, as if it had been started so, for one file after the other. Never
    returns."""
    status = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with(server)
        caller, nothing = only_these_open(descriptors)
        limit_memory(MOST_MEMORY)
        for number in range(1, MOST_FILES + 1):
            sys.argv = arguments
            exec(code, {"__name__": "__main__", "__file__": arguments[0]})
            sys.stdout.flush()
            redirect(nothing, nothing)  # the caller sees the end of both
            if number == MOST_FILES or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > MOST_LEFT_KB:
                break  # the server reports the end
            report(caller, 0)
            path, streams, *_ = socket.recv_fds(caller, LONGEST_PATH, 2)
            if not path:
                break
            redirect(*streams)
            for stream in streams:
                os.close(stream)
            arguments = [*arguments[:2], os.fsdecode(path)]
        status = 0
    except MemoryError:
        limit_memory(resource.RLIM_INFINITY)
        if is_to_be_had(MOST_MEMORY):
            os._exit(OVER_MEMORY)
        raise
    finally:  # as the interpreter ends a script, but never back in the server
        if status:
            traceback.print_exc()
        os._exit(status)


def only_these_open(descriptors: list[int]) -> tuple[socket.socket, int]:
    """The socket to the caller, and /dev/null, which is standard input too; beside standard output and error."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    redirect(*descriptors[1:])
    os.dup2(descriptors[0], 3)
    os.dup2(nothing, 4)
    os.closerange(5, max(*descriptors, nothing) + 64)
    return socket.socket(fileno=3), 4


def redirect(output: int, messages: int) -> None:
    os.dup2(output, 1)
    os.dup2(messages, 2)


def limit_memory(most: int) -> None:
    """Of this process, as far as the limit that it was started under lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = most if hard == resource.RLIM_INFINITY else hard if most == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))


def is_to_be_had(size: int) -> bool:
    """Whether so many bytes more are given: then it was the limit of a scan that refused them, and not the machine."""
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return False
    return True


def die_with(server: int) -> None:
    """The kernel kills this process when the server ends (Linux; elsewhere the scan goes on to its end)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)


def reap(running: dict[int, socket.socket]) -> None:
    """Reports the status of each scan that ended."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with running.pop(ended[0]) as status:
                refuse_more(status)  # before the report, or the caller might send it another file
                report(status, os.waitstatus_to_exitcode(ended[1]))


def refuse_more(status: socket.socket) -> None:
    with suppress(OSError):  # the caller is gone
        status.shutdown(socket.SHUT_RD)


def report(status: socket.socket, number: int) -> None:
    with suppress(OSError):  # the caller no longer waits for it
        status.send(STATUS.pack(number))


if __name__ == "__main__":
    main(*sys.argv[1:3])
