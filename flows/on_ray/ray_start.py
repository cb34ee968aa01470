"""Ray for a run: started on this machine, where it listens on loopback only, or a cluster that is running already.

Ray prints little here: workers' logs stay in its log folder and the dashboard, and a run's failures reach the user by
our own messages. A Ray of this machine ends with the process that started it, however that ends: the kernel kills its
processes with the thread that called ``start_ray``, so call it in one that lives as long as the run. After a kill -9
work ends within seconds; two of Ray's agents stay for a minute, trying to report to the dead driver.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from flows.environment import QUIET, report_nothing
from flows.on_ray.ray_private import keep_standard_output_free, stay_on_loopback
from flows.request import check_ray_address
from storage.stores.scratch import scratch_folder
from tempo_core.errors import TempoError
from tempo_core.host import cpu_count
from tempo_core.local_paths import home_folder

STORE_BYTES = 2**30  # batches of frames as JPEG, two per video under way: a fraction of it
USERS_FOLDER = "RAY_TMPDIR"
LONGEST_BASE = 14  # bytes: with the names of scratch folder, session and socket below it, an address may have 103
REACH_DEADLINE_S, CONNECT_DEADLINE_S = 5.0, 60.0
_ray: Any = ray  # some of its functions have no types


@contextmanager
def start_ray(num_cpus: int | None = None, num_gpus: int | None = None) -> Iterator[str]:
    """Ray on this machine, and the URL of its dashboard; it ends with the context. TempoError if it cannot start.

    ``num_cpus``, ``num_gpus``: what tasks may use; None: what this process may use. Ray keeps other users of the
    machine out with a token (``~/.ray/auth_token``), which the dashboard asks for, unless RAY_AUTH_MODE is set.
    """
    stay_on_loopback()
    report_nothing()
    cpus = cpu_count() if num_cpus is None else num_cpus  # Ray's own count is 0 in a container with half a CPU
    options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": num_gpus, "object_store_memory": STORE_BYTES}
    options |= {"address": "local", "dashboard_host": "127.0.0.1"}
    with _ray_folder() as folder, _initialized("Ray did not start on this machine", **options, **folder) as url:
        _expect_loopback()
        _keep_token_private()
        yield url


@contextmanager
def _ray_folder() -> Iterator[dict[str, str]]:
    """Where Ray puts its sockets and logs, as an option of ``ray.init``: below a folder that only this user can enter,
    which is gone at the end. Ray's own would let every user of the machine put a socket in the place of the raylet's.

    A folder that the user gives as RAY_TMPDIR is his to keep, and to keep others out of.
    """
    if os.environ.get(USERS_FOLDER):
        yield {}
        return
    base = tempfile.gettempdir()
    with scratch_folder(Path(base if len(os.fsencode(base)) <= LONGEST_BASE else "/tmp")) as folder:
        yield {"_temp_dir": str(folder / "r")}  # Ray opens this one to all


@contextmanager
def connect_ray(address: str) -> Iterator[str]:
    """The cluster at ``address`` (HOST:PORT), and the URL of its dashboard.

    Where Ray would wait for minutes, or abort this process, a child tries first. UsageError for what is not a valid
    address; TempoError where no cluster answers.
    """
    _expect_listener(address)
    _expect_cluster(address)
    quiet = {"env_vars": {name: os.environ.get(name, value) for name, value in QUIET.items()}}
    with _initialized(f"no Ray cluster at {address}", address=address, runtime_env=quiet) as url:
        yield url


@contextmanager
def _initialized(what: str, **options: Any) -> Iterator[str]:
    """The URL of the dashboard, empty where there is none. This process keeps its handler of SIGTERM: Ray sets one."""
    keep_standard_output_free()
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        url = _ray.init(**options, log_to_driver=False, logging_level="ERROR").dashboard_url
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        _ray.shutdown()
        reason = str(error).partition("\n")[0]
        raise TempoError(f"{what}: {reason}; --ray off runs in this process alone") from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, handler)
    try:
        yield f"http://{url}" if url else ""
    finally:
        _ray.shutdown()


def _expect_loopback() -> None:
    address = _ray.util.get_node_ip_address()
    if not ipaddress.ip_address(address).is_loopback:
        raise TempoError(f"Ray listens at {address}, not on loopback only; --ray off runs in this process alone")


def _keep_token_private() -> None:
    """Ray makes the file readable by all, and whoever has the token can run code as this user."""
    home = home_folder()
    if home is not None and (token := home / ".ray" / "auth_token").exists():
        token.chmod(0o600)


def _expect_listener(address: str) -> None:
    """UsageError or TempoError, within seconds, for a wrong host or port."""
    host, _, port = check_ray_address(address).rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_DEADLINE_S).close()
    except (OSError, OverflowError) as error:  # OverflowError: no port has so high a number
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
