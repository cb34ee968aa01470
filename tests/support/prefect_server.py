"""A real Prefect server of a test module's own, on loopback, and its API as a test speaks to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.support import ROOT

T = TypeVar("T")
HOST = "127.0.0.1"
START_DEADLINE_S = 90
DEADLINE_S = 150
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
# Looked at often, so that no test waits for a clock; nothing is reported to anybody.
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}


@dataclass(frozen=True)
class PrefectServer:
    """Where it is, and the environment that leads there."""

    url: str
    environment: dict[str, str]

    def get(self, path: str) -> Any:
        return self._ask(Request(self.url + path))

    def post(self, path: str, **body: Any) -> Any:
        """The answer; HTTPError where the server refuses. SQLite under load is asked again (503)."""
        request = Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return self._ask(request)

    def _ask(self, request: Request) -> Any:
        for _ in range(20):
            try:
                with urlopen(request, timeout=30) as answer:
                    text = answer.read()
                return json.loads(text) if text else None
            except HTTPError as error:
                if error.code != 503:
                    raise
                time.sleep(0.5)
        raise AssertionError(f"{request.full_url}: busy for too long")

    def deployment(self, name: str) -> Any:
        """The deployment of the flow, as soon as it is there and not paused."""

        def look() -> Any:
            with contextlib.suppress(HTTPError):
                found = self.get(f"/deployments/name/index-library/{name}")
                return None if found["paused"] else found
            return None

        return until(look, f"deployment {name}")

    def trigger(self, deployment: Any, **parameters: Any) -> str:
        """A run now, whatever the schedule says; its id."""
        path = f"/deployments/{deployment['id']}/create_flow_run"
        return str(self.post(path, state={"type": "SCHEDULED"}, parameters=parameters)["id"])

    def state(self, run: str) -> Any:
        return self.get(f"/flow_runs/{run}")["state"]

    def wait(self, run: str, *kinds: str) -> Any:
        """The run's state as soon as its type or name is one of these; AssertionError where it ends otherwise."""

        def look() -> Any:
            state = self.state(run)
            if {state["type"], state["name"]} & set(kinds):
                return state
            assert state["type"] not in FINAL, state
            return None

        return until(look, f"{run} to be {kinds}")

    def artifacts(self, run: str) -> dict[str, Any]:
        """Key to data."""
        found = self.post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}})
        return {artifact["key"]: artifact["data"] for artifact in found}

    def logs(self, run: str) -> list[tuple[int, str]]:
        """Level and message of each line."""
        found = self.post("/logs/filter", logs={"flow_run_id": {"any_": [run]}}, sort="TIMESTAMP_ASC")
        return [(line["level"], line["message"]) for line in found]


def until(look: Callable[[], T | None], what: str, deadline_s: float = DEADLINE_S) -> T:
    """What ``look`` finds, as soon as it finds something."""
    deadline = time.monotonic() + deadline_s
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.2)
    return found


@contextmanager
def prefect_server(home: Path) -> Iterator[PrefectServer]:
    """Started with a home of its own, killed with all its processes at the end."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    url = f"http://{HOST}:{port}/api"
    environment = {**SETTINGS, "PREFECT_HOME": str(home), "PREFECT_API_URL": url}
    home.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--port", str(port)]
    with (home / "server.log").open("wb") as log, group(command, environment, log) as process:
        server = PrefectServer(url, environment)

        def look() -> bool | None:
            assert process.poll() is None, (home / "server.log").read_text()
            try:
                return bool(server.get("/health")) or None
            except (URLError, OSError):
                return None

        until(look, "the Prefect server", START_DEADLINE_S)
        yield server


@contextmanager
def group(command: list[str], environment: dict[str, str], output: Any = None) -> Iterator[subprocess.Popen[str]]:
    """A process that leads a group of its own, whose every member is gone at the end."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def processes(server: PrefectServer) -> dict[int, str]:
    """Command lines of all that runs with this server's address in its environment, but for the server itself."""
    mark, found = f"PREFECT_API_URL={server.url}".encode(), {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(folder.name)
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mark in (folder / "environ").read_bytes().split(b"\0") and "server start" not in line and line:
                found[pid] = line
    return found


def no_processes(server: PrefectServer) -> bool | None:
    """True when nothing is left."""
    return not (set(processes(server)) - {os.getpid()}) or None
