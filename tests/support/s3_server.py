"""A real S3 server (moto's) over HTTP, and a proxy in front of it that fails as networks do."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

HOST = "127.0.0.1"
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}

Kind = Literal["error", "busy", "drop", "slow", "stall", "stale"]
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests that fit ``pattern`` (of "METHOD /path").

    error: answered with 500. busy: with 503 SlowDown, as S3 throttles. drop: half of the body, then the connection is
    closed. slow: the body in ``pieces`` pieces, ``pause_s`` apart. stall: nothing at all for ``pause_s``. stale: as the
    same request was answered first, which a cache in front of S3 may do.
    """

    kind: Kind
    pattern: str
    times: int = 1
    pieces: int = 5
    pause_s: float = 0.05


@dataclass
class Proxy:
    """The faults to come, and the requests that passed: "METHOD /path range"."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    first_answers: dict[str, tuple[int, list[tuple[str, str]], bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, request: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None

    def count(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, request)) for request in self.requests)


@contextmanager
def s3_server() -> Iterator[int]:
    """moto's server in a process of its own; the port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def fault_proxy(port: int) -> Iterator[Proxy]:
    """A proxy in front of the server at ``port``."""

    class Handler(_Handler):
        upstream = port

    server = _Server((HOST, 0), Handler)
    Handler.proxy = Proxy(f"http://{HOST}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Handler.proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or an S3 that is gone with its test: no traceback into what another test reads."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: int
    proxy: Proxy

    def _forward(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        request = f"{self.command} {self.path} {self.headers.get('Range', '')}".strip()
        with self.proxy.lock:
            self.proxy.requests.append(request)
        fault = self.proxy.next_fault(request)
        if fault and fault.kind == "stall":
            time.sleep(fault.pause_s)
        if fault and fault.kind == "error":
            self._answer(500, [("Content-Length", "0")], b"", None)
            return
        if fault and fault.kind == "busy":
            self._busy()
            return
        upstream = http.client.HTTPConnection(HOST, self.upstream, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers))
        response = upstream.getresponse()
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
        data = response.read()
        upstream.close()
        if self.command != "HEAD" and not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Content-Length", str(len(data))))
        answer = response.status, headers, data
        if fault and fault.kind == "stale":
            answer = self.proxy.first_answers.setdefault(request, answer)
        self._answer(*answer, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815 - the names http.server asks for

    def _busy(self) -> None:
        body = b"" if self.command == "HEAD" else SLOW_DOWN
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        self._answer(503, headers, body, None)

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, fault: Fault | None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        try:
            self._send(data, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send(self, data: bytes, fault: Fault | None) -> None:
        if fault is None or fault.kind in {"error", "stall", "stale"}:
            self.wfile.write(data)
        elif fault.kind == "drop":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            size = -(-len(data) // fault.pieces)
            for start in range(0, len(data), size):
                self.wfile.write(data[start : start + size])
                self.wfile.flush()
                time.sleep(fault.pause_s)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server has
        """Quiet."""


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("moto's server did not start")
