"""What every test stands on: fixed seeds, a home of its own, no hub, no credentials, few threads.

The environment is set before numpy, torch or any library with a cache is imported (so this file imports none of
them); child processes inherit it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.support.s3_server import Proxy

SEED = 20604  # any fixed number
REPORTING_OFF = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "TOKENIZERS_PARALLELISM": "false",
}
FOREIGN = ("AWS_", "HF_", "HUGGING", "TEMPO_", "XDG_", "LANCE_", "FSSPEC_", "PREFECT_", "RAY_ADDRESS", "OPENAI_")
NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_")  # in either case

settings.register_profile("house", deadline=None, derandomize=True, max_examples=50, print_blob=True)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    """One home for the whole session: xdist's workers inherit it from the process that started them."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # or no child could be interrupted by a test
    if hasattr(config, "workerinput"):
        return
    home = Path(tempfile.mkdtemp(prefix="tempo-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    foreign = {name for name in os.environ if name.startswith(FOREIGN) or name.upper().startswith(NETWORK)}
    for name in foreign - {"TEMPO_FFMPEG"}:
        del os.environ[name]
    os.environ |= REPORTING_OFF
    os.environ |= {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        "HF_HOME": str(home / "huggingface"),
        "TEMPO_SETTLE": "0",  # tests index what they have just written
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: a worker takes a file at a time, and none is to be left alone with a long one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test draws the same random numbers, whatever ran before it."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """An S3 server of the module's own."""
    from tests.support.s3_server import s3_server

    with s3_server() as started:
        yield started


@pytest.fixture
def proxy(port: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A network to it that fails on demand, the environment that leads there, and the module's ``BUCKET``."""
    from storage.stores.s3_client import file_system
    from tests.support.s3_server import CREDENTIALS, fault_proxy

    with fault_proxy(port) as started:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": started.url}.items():
            monkeypatch.setenv(name, value)
        file_system({}).call_s3("create_bucket", Bucket=request.module.BUCKET)
        started.requests.clear()
        yield started
