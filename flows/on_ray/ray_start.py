"""Ray for a run: one of this machine that listens on loopback only, or a cluster that is there.

Ray says little here: workers' logs stay in its log folder and the dashboard, and a run's failures reach the user by our
own messages. A Ray of this machine ends with the process that started it, however that ends: the kernel kills its
processes with the thread that called ``start_ray``, so call it in one that lives as long as the run. After a kill -9
work ends within seconds; two of Ray's agents stay for a minute, to report to a driver that is not there.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
from ray._private import ray_constants

from flows.environment import QUIET
from tempo_core.errors import TempoError, UsageError

log = logging.getLogger(__name__)

STORE_BYTES = 2**30  # batches of frames as JPEG, two per video under way: a fraction of it
REACH_DEADLINE_S, CONNECT_DEADLINE_S = 5.0, 60.0
_ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray takes 127.0.0.1 for its node's address, on Linux too
_ray: Any = ray  # some of its functions have no types


@contextmanager
def start_ray(num_cpus: int | None = None, num_gpus: int | None = None) -> Iterator[str]:
    """Ray on this machine, and the address of its dashboard; it ends with the context. TempoError if it cannot start.

    ``num_cpus``, ``num_gpus``: what tasks may use; None: what is there. Ray keeps other users of the machine out with a
    token (``~/.ray/auth_token``), which the dashboard asks for, unless RAY_AUTH_MODE says otherwise.
    """
    _stay_on_loopback()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "object_store_memory": STORE_BYTES}
    with _initialized("Ray did not start on this machine", address="local", dashboard_host="127.0.0.1", **options):
        _expect_loopback()
        _keep_token_private()
        yield dashboard_url()


@contextmanager
def connect_ray(address: str) -> Iterator[str]:
    """The cluster at ``address`` (HOST:PORT, or auto on one of its nodes), and the address of its dashboard.

    Where Ray would wait for minutes, or abort this process, a child tries first. UsageError for what is no address;
    TempoError where no cluster answers.
    """
    if address != "auto":
        _expect_listener(address)
    _expect_cluster(address)
    quiet = {"env_vars": {name: os.environ.get(name, value) for name, value in QUIET.items()}}
    with _initialized(f"no Ray cluster at {address}", address=address, runtime_env=quiet):
        yield dashboard_url()


def dashboard_url() -> str:
    """Of the Ray that this process is connected to; empty where it has none."""
    url = _ray._private.worker.get_dashboard_url()
    return f"http://{url}" if url else ""


@contextmanager
def _initialized(what: str, **options: Any) -> Iterator[None]:
    """Ray takes SIGTERM for itself; what this process does on it stays as it was."""
    _ray._private.worker.print_to_stdstream = _log  # a dead worker, on standard output; no option turns it off
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        _ray.shutdown()
        reason = str(error).partition("\n")[0]
        raise TempoError(f"{what}: {reason}; --ray off runs in this process alone") from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        _ray.shutdown()


def _log(data: Mapping[str, Any], ignore_prefix: bool) -> None:  # noqa: ARG001 - as Ray calls it
    for line in data["lines"]:
        log.debug("%s", line)


def _stay_on_loopback() -> None:
    """Else Ray takes the machine's own address, whatever ``_node_ip_address`` says, and listens to the network."""
    os.environ[_ONE_MACHINE] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False  # what ``import ray`` read already


def _expect_loopback() -> None:
    address = _ray.util.get_node_ip_address()
    if not ipaddress.ip_address(address).is_loopback:
        raise TempoError(f"Ray listens at {address}, not on loopback only; --ray off runs in this process alone")


def _keep_token_private() -> None:
    """Ray makes the file readable by all, and whoever has the token runs code as this user."""
    token = Path.home() / ".ray" / "auth_token"
    if token.exists():
        token.chmod(0o600)


def _expect_listener(address: str) -> None:
    """Told within seconds: a wrong host or port."""
    parts = urlsplit(address if "://" in address else f"ray-node://{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or parts.scheme != "ray-node":
        raise UsageError(
            f"{address}: no address of a Ray cluster; give local, off, auto, or HOST:PORT of its head node"
        )
    try:
        socket.create_connection((host, port), timeout=REACH_DEADLINE_S).close()
    except OSError as error:
        raise TempoError(
            f"no Ray cluster at {address}: {error}; is its head node up (`ray status` there), and its port open?"
        ) from None


def _expect_cluster(address: str) -> None:
    code = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"
    command = [sys.executable, "-c", code, address]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=CONNECT_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        reason = f"it did not answer in {CONNECT_DEADLINE_S:.0f} s"
    else:
        if tried.returncode == 0:
            return
        reason = tried.stderr.strip().splitlines()[-1] if tried.stderr.strip() else f"exit {tried.returncode}"
    raise TempoError(
        f"no use of the Ray cluster at {address}: {reason}; run on one of its nodes, with its version of Ray "
        f"({ray.__version__} here), and with RAY_AUTH_MODE=token and its token if it asks for one"
    )
