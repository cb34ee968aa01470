"""Scans as processes that one server forks (``scan_server.py``): started with the first file, replaced if it dies."""

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
from pathlib import Path
from typing import IO

from tempo_core.decoding.scan_server import STATUS
from tempo_core.decoding.spawn import spawn
from tempo_core.errors import DecoderDied, DecodeTimeout

_SERVER = Path(__file__).with_name("scan_server.py")
_START_DEADLINE_S = 120.0  # a machine under load, whose disk PyAV comes from for the first time


class Scan:
    """A running scan, as a ``subprocess.Popen`` of it would be."""

    def __init__(self, pid: int, status: socket.socket, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self._status = status
        self._code: int | None = None

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
            with self._status:
                code = _received(self._status, 0.0)
            self._code = -signal.SIGKILL if code is None else code  # None: the server is dead, and its scans with it
        return self._code


class _Server:
    """The process that forks, and the way to it."""

    def __init__(self, worker: str, formats: str) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = spawn([sys.executable, "-P", str(_SERVER), worker, formats], stdin=theirs.fileno())
        atexit.register(self.stop)

    def start(self, path: str) -> Scan | None:
        """A scan of ``path``; None where the server is dead."""
        status, theirs = socket.socketpair()
        (output, to_output), (messages, to_messages) = os.pipe(), os.pipe()
        streams = os.fdopen(output, "rb", buffering=0), os.fdopen(messages, "rb")
        pid: int | None = None
        try:
            with self._lock:
                self._send(path, [theirs.detach(), to_output, to_messages])
                pid = _received(status, _START_DEADLINE_S)
        except BaseException:  # an interrupt while waiting: nobody would end the scan
            self.stop()
            raise
        finally:
            if pid is None:
                for stream in (status, *streams):
                    stream.close()
        return None if pid is None else Scan(pid, status, *streams)

    def _send(self, path: str, descriptors: Sequence[int]) -> None:
        """Hands the descriptors over, which are closed here, so that their ends are seen at the other side."""
        try:
            with suppress(OSError):  # it is dead, which reading from the socket shows
                socket.send_fds(self._control, [os.fsencode(path)], descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def stop(self) -> str:
        """Kill it, and its scans with it. The last line that it left; harmless at any time."""
        atexit.unregister(self.stop)
        with self._control, self._process as process:
            process.kill()
            assert process.stderr is not None
            messages = process.stderr.read() if not process.stderr.closed else b""
        return messages.decode("utf-8", "replace").strip().rpartition("\n")[2]


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
