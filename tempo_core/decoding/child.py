"""A child process that cannot outlive, block or flood its caller.

It has its own process group, which is killed as a whole. Its standard error is drained by a thread that keeps only the
first and the last lines. Reading its output has two deadlines, and only time spent waiting for it counts, so that it is
not killed because its consumer is slow (a busy GPU). On Linux it dies with its caller (``spawn.py``).
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO

from tempo_core.decoding.scanning import Scan
from tempo_core.decoding.spawn import Process, spawn
from tempo_core.errors import DecoderDied, DecodeTimeout

_KEPT_LINES = 20
_LINE_BYTES = 2000
_CHUNK = 1 << 20
# Exit statuses of a shell that could not execute the program (or its loader), and of an ffmpeg that was told to end.
_NOT_ITS_OWN_END = (126, 127, 255)


@dataclass(frozen=True)
class Deadline:
    """The seconds that a child may be waited for: in all, and without a byte of output."""

    total_s: float
    stall_s: float


class Child:
    """Runs ``command`` at once. Use as a context manager: leaving it kills and reaps the process group.

    ``start``: how a command becomes a process, with a group of its own; a scan is forked instead of spawned.
    """

    def __init__(
        self,
        command: Sequence[str],
        deadline: Deadline,
        name: str,
        start: Callable[[Sequence[str]], Process | Scan] = spawn,
    ) -> None:
        self._deadline, self._name = deadline, name
        self._waited_s, self._stopped = 0.0, False
        try:
            self._process = start(command)
        except OSError as error:
            raise DecoderDied(f"{name} could not be started: {error}") from error
        assert self._process.stdout is not None and self._process.stderr is not None
        self._output = self._process.stdout.fileno()
        self._messages = _Messages(self._process.stderr)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def waited_s(self) -> float:
        """Seconds spent waiting for it so far, which count towards its deadline."""
        return self._waited_s

    def read(self, size: int = _CHUNK) -> bytes:
        """Up to ``size`` bytes of standard output, b"" at its end. DecodeTimeout past a deadline (it is killed)."""
        self._wait_for_output()
        return os.read(self._output, max(1, size))

    def _wait_for_output(self) -> None:
        poll = select.poll()
        poll.register(self._output, select.POLLIN | select.POLLHUP | select.POLLERR)
        allowed = min(self._deadline.stall_s, self._deadline.total_s - self._waited_s)
        began = time.monotonic()
        ready = poll.poll(max(0.0, allowed) * 1000)
        self._waited_s += time.monotonic() - began
        if not ready:
            self.kill()
            raise DecodeTimeout(self._timeout_reason())

    def _timeout_reason(self) -> str:
        if self._waited_s >= self._deadline.total_s:
            return f"{self._name} did not finish within {self._deadline.total_s:.0f} s and was stopped"
        return f"{self._name} gave nothing for {self._deadline.stall_s:.0f} s and was stopped"

    def finish(self) -> int:
        """Wait for the end, once all output was read. The exit status; DecodeTimeout.

        DecoderDied where it did not end by itself: a signal, or a program that was not there or did not load.
        """
        allowed = max(1.0, min(self._deadline.stall_s, self._deadline.total_s - self._waited_s))
        try:
            status = self._process.wait(timeout=allowed)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DecodeTimeout(f"{self._name} did not end and was stopped") from None
        finally:
            self._messages.join()
        if status < 0 or status in _NOT_ITS_OWN_END:
            raise DecoderDied(self.complaint())
        return status

    def complaint(self, concerns: Callable[[str], bool] = bool) -> str:
        """Why it failed, once it ended: a signal, the last line of a traceback, or the first message that ``concerns``
        is true of (or else the first of all)."""
        status = self._process.poll()
        if status is not None and status < 0 and not self._stopped:
            return f"{self._name} crashed ({signal.Signals(-status).name})"
        messages = self.messages()
        if not messages:
            return f"{self._name} gave no reason" + (f" (exit status {status})" if status else "")
        raised = any(message.startswith("Traceback") for message in messages)
        message = messages[-1] if raised else next(filter(concerns, messages), messages[0])
        return re.sub(r"^(\[[^]]*\] ?)+", "", message) or message  # without the "[h264 @ 0x55..]" before it

    def messages(self) -> list[str]:
        """The first and last lines of standard error, without empty ones."""
        return self._messages.lines()

    def kill(self) -> None:
        """Kill the process group and reap the process. Harmless when it is over."""
        if self._process.poll() is None:
            self._stopped = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._messages.join()
        if isinstance(self._process, Scan):
            self._process.close()

    def spare(self) -> None:
        """Let the process of a scan that went well scan another file."""
        if isinstance(self._process, Scan) and not self.messages():
            self._process.spare()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill it if it still runs, and close its output. Harmless at any time."""
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()


class _Messages:
    """Drains a stream to its end in a thread: a full pipe would stop ffmpeg for ever."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)
        self._thread = threading.Thread(target=self._drain, daemon=True, name="tempo-stderr")
        self._thread.start()

    def _drain(self) -> None:
        with self._stream:
            while line := self._stream.readline(_LINE_BYTES):
                self._keep(line.decode("utf-8", "replace").strip())

    def _keep(self, line: str) -> None:
        if not line:
            return
        if len(self._first) < _KEPT_LINES:
            self._first.append(line)
        else:
            self._last.append(line)

    def join(self) -> None:
        self._thread.join(timeout=5.0)  # a grandchild could hold the pipe open; the thread is a daemon

    def lines(self) -> list[str]:
        return [*self._first, *list(self._last)]
