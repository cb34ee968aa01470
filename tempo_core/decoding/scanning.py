"""Scans as processes that one server forks (``scan_server.py``): started with the first file, replaced if it dies.

A process that scanned a sound file is spared: it takes the next one. All others have scanned their last.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tempo_core.decoding.scan_server import STATUS
from tempo_core.decoding.spawn import spawn
from tempo_core.errors import DecoderDied, DecodeTimeout

_SERVER = Path(__file__).with_name("scan_server.py")
_START_DEADLINE_S = 120.0  # a machine under load, whose disk PyAV comes from for the first time


class Scan:
    """A running scan, as a ``subprocess.Popen`` of it would be; to be closed or spared when it is over."""

    def __init__(self, process: _Process, stdout: IO[bytes], stderr: IO[bytes], spared: list[_Process]) -> None:
        self.pid, self.stdout, self.stderr = process.pid, stdout, stderr
        self._process, self._status, self._spared = process, process.status, spared
        self._is_spared = False
        self._code: int | None = None

    def spare(self) -> None:
        """Let its process scan another file: it ended well, and nothing of its file was amiss."""
        if self._code == 0:
            self._is_spared = True
            self._spared.append(self._process)

    def close(self) -> None:
        """Let its process end, unless it was spared."""
        if not self._is_spared:
            with suppress(OSError):  # it is closed already, or the server is dead
                self._status.shutdown(socket.SHUT_RDWR)  # a fork of this process may hold the socket too
            self._status.close()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self._code is None and select.select([self._status], [], [], 0)[0]:
            self._take()
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it ended; subprocess.TimeoutExpired."""
        if self._code is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("scan", timeout or 0.0)
        return self._take()

    def _take(self) -> int:
        if self._code is None:
            code = _received(self._status, 0.0)
            self._code = -signal.SIGKILL if code is None else code  # None: the server is dead, and its scans with it
        return self._code


@dataclass(frozen=True)
class _Process:
    """One that scans: its id, and the socket to it."""

    pid: int
    status: socket.socket


class _Server:
    """The process that forks, and the way to it. ``_spared``: what it forked and has no file now."""

    def __init__(self, worker: str, formats: str) -> None:
        self._lock = threading.Lock()
        self._spared: list[_Process] = []
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = spawn([sys.executable, "-P", str(_SERVER), worker, formats], stdin=theirs.fileno())
        atexit.register(self.stop)

    def start(self, path: str) -> Scan | None:
        """A scan of ``path``; None where the server is dead."""
        with suppress(IndexError):
            while True:
                if (scan := self._again(self._spared.pop(), path)) is not None:
                    return scan
        return self._forked(path)

    def _again(self, process: _Process, path: str) -> Scan | None:
        """A scan by a process that was spared; None where it is dead."""
        streams, theirs = _pipes()
        try:
            if _send(process.status, path, theirs):
                return Scan(process, *streams, self._spared)
        except BaseException:  # an interrupt while sending: nobody would end the scan
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        for each in (process.status, *streams):
            each.close()
        return None

    def _forked(self, path: str) -> Scan | None:
        status, theirs = socket.socketpair()
        streams, to_streams = _pipes()
        pid: int | None = None
        try:
            with self._lock:
                _send(self._control, path, [theirs.detach(), *to_streams])
                pid = _received(status, _START_DEADLINE_S)
        except BaseException:  # an interrupt while waiting: nobody would end the scan
            self.stop()
            raise
        finally:
            if pid is None:
                for stream in (status, *streams):
                    stream.close()
        return None if pid is None else Scan(_Process(pid, status), *streams, self._spared)

    def stop(self) -> str:
        """Kill it, and its scans with it. The last line that it left; harmless at any time."""
        atexit.unregister(self.stop)
        while self._spared:
            self._spared.pop().status.close()
        with self._control, self._process as process:
            process.kill()
            assert process.stderr is not None
            messages = process.stderr.read() if not process.stderr.closed else b""
        return messages.decode("utf-8", "replace").strip().rpartition("\n")[2]


def _pipes() -> tuple[tuple[IO[bytes], IO[bytes]], tuple[int, int]]:
    """The ends of two pipes to read from, and those to write to."""
    (output, to_output), (messages, to_messages) = os.pipe(), os.pipe()
    return (os.fdopen(output, "rb", buffering=0), os.fdopen(messages, "rb")), (to_output, to_messages)


def _send(to: socket.socket, path: str, descriptors: Sequence[int]) -> bool:
    """Hands the descriptors over, which are closed here, so that their ends are seen at the other side. False where
    that is dead."""
    try:
        socket.send_fds(to, [os.fsencode(path)], descriptors)
    except OSError:
        return False
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return True


_servers: dict[tuple[int, str, str], _Server] = {}
_lock = threading.Lock()


def start_scan(command: Sequence[str]) -> Scan:
    """The running scan of the command WORKER FORMATS PATH; DecoderDied with the reason where it cannot be started."""
    worker, formats, path = command
    key = os.getpid(), worker, formats  # a fork has a server of its own
    reason = ""
    for _ in range(2):
        with _lock:
            server = _servers.get(key) or _servers.setdefault(key, _Server(worker, formats))
        scan = server.start(path)
        if scan is not None:
            return scan
        with _lock:
            if _servers.get(key) is server:
                del _servers[key]
        reason = server.stop()
    raise DecoderDied(f"the packet scan does not start: {reason or 'no reason given'}")


def _received(status: socket.socket, timeout_s: float) -> int | None:
    """The next number; None at the end. DecodeTimeout."""
    if not select.select([status], [], [], timeout_s)[0]:
        raise DecodeTimeout(f"the packet scan did not start within {timeout_s:.0f} s")
    sent = status.recv(STATUS.size)
    return int(STATUS.unpack(sent)[0]) if sent else None
