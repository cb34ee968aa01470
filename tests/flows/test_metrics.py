"""What a run exports, as a real Prometheus finds it, and the dashboard that stands on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flows import failure
from flows.environment import QUIET
from flows.on_ray.metrics import EXPORTED, REASONS, STATUSES, STEPS
from tests.support import ROOT

DASHBOARD = json.loads((ROOT / "infra" / "grafana" / "dashboard.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
PROMETHEUS = Path(sys.executable).with_name("prometheus")  # `make test` puts it there
Value = TypeVar("Value")


# --- the dashboard ---------------------------------------------------------------------------------------------------


def test_the_dashboard_asks_only_for_what_is_exported() -> None:
    asked = {name for expression in EXPRESSIONS for name in re.findall(r"\b(?:ray|tempo)_\w+", expression)}
    assert asked - EXPORTED.keys() == set()
    assert len(asked) > 10


def test_the_dashboard_groups_by_tags_that_its_metrics_have() -> None:
    grouped = [(tag, name) for text in EXPRESSIONS for tag, name in re.findall(r"by \((\w+)\).*?(ray_\w+)", text)]
    assert len(grouped) >= 5
    assert [(tag, name) for tag, name in grouped if EXPORTED[name][0] != tag] == []


def test_the_panels_of_the_dashboard_have_ids_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert [place for place in places if place["x"] + place["w"] > 24 or min(place.values()) < 0] == []
    assert [pair for pair in combinations(places, 2) if overlap(*pair)] == []


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in ("xw", "yh"))


def test_every_step_that_fails_has_its_tag() -> None:
    steps = {failure.FETCH, failure.KEPT, failure.DECODE, failure.ENCODE, failure.MEMORY, failure.CRASH}
    steps |= {failure.TIMEOUT}
    assert {*REASONS} == {*steps, "other"}


# --- what Prometheus finds -------------------------------------------------------------------------------------------


def within(seconds: float, attempt: Callable[[], Value | None]) -> Value:
    """What ``attempt`` returns once it returns something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (value := attempt()) is not None:
            return value
        time.sleep(0.1)
    raise AssertionError("it did not come in time")


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, for sockets; Ray's own folder below it, so that no other Ray of this machine writes into its list."""
    path = Path(tempfile.mkdtemp(prefix="tempo-ray-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def run(folder: Path) -> Iterator[dict[str, Any]]:
    """What a driver printed that has set its metrics."""
    names = [*QUIET, "SOMETHING_ELSE"]
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder), "RAY_metrics_report_interval_ms": "1000"}
    command = [sys.executable, "-m", "tests.support.metrics_run", json.dumps(names)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        yield json.loads(driver.stdout.readline())
        driver.communicate("", timeout=60)
    assert driver.returncode == 0


@pytest.fixture(scope="module")
def query(run: dict[str, Any], folder: Path) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Prometheus with the configuration of ``infra``, but faster and with this Ray's list of addresses."""
    text = (ROOT / "infra" / "prometheus.yml").read_text()
    assert "/tmp/ray/" in text
    config = folder / "prometheus.yml"
    config.write_text(re.sub(r"\b\d+s\b", "1s", text.replace("/tmp/ray/", f"{folder}/ray/")))
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [str(PROMETHEUS), f"--config.file={config}", f"--storage.tsdb.path={folder}/series"]
    log = (folder / "prometheus.log").open("wb")
    with log, subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=log) as server:

        def ask(expression: str) -> list[dict[str, Any]]:
            assert server.poll() is None, (folder / "prometheus.log").read_text()
            words = urllib.parse.urlencode({"query": expression})
            with urllib.request.urlopen(f"http://{address}/api/v1/query?{words}", timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return found

        def is_up() -> bool | None:
            try:
                return bool(ask('{__name__=~"ray_tempo_.*"}')) or None
            except urllib.error.URLError:
                return None

        within(60, is_up)  # whichever test comes first, on whichever worker
        yield ask
        server.terminate()


def values(series: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """Values by the name of the series and the value of its tag."""
    tags = {name: tag for name, (tag, _) in EXPORTED.items()}
    return {
        (one["metric"]["__name__"], one["metric"].get(tags[one["metric"]["__name__"]], "")): float(one["value"][1])
        for one in series
    }


@pytest.mark.ray
def test_prometheus_finds_every_metric_with_the_value_that_the_run_set(
    query: Callable[[str], list[dict[str, Any]]],
) -> None:
    from tests.support.metrics_run import EXPORTED_VALUES

    def all_series() -> dict[tuple[str, str], float] | None:
        series = values(query('{__name__=~"ray_tempo_.*"}'))
        return series if series.keys() >= EXPORTED_VALUES.keys() else None

    series = within(60, all_series)
    assert {key: series[key] for key in EXPORTED_VALUES} == EXPORTED_VALUES
    assert {name for name, _ in series} == EXPORTED.keys()


@pytest.mark.ray
def test_no_tag_has_a_value_that_is_not_listed(query: Callable[[str], list[dict[str, Any]]]) -> None:
    series = within(60, lambda: values(query('{__name__=~"ray_tempo_.*_total"}')) or None)
    assert {tag for name, tag in series if EXPORTED[name][1]} <= {*STEPS, *STATUSES, *REASONS}
    labels = {label for one in query('{__name__=~"ray_tempo_.*"}') for label in one["metric"]}
    ray_own = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId"}
    assert labels - ray_own == {"__name__", "instance", "job", "step", "status", "reason", "le"}


@pytest.mark.ray
@pytest.mark.parametrize("expression", sorted(set(EXPRESSIONS)))
def test_prometheus_answers_what_the_dashboard_asks(
    query: Callable[[str], list[dict[str, Any]]], expression: str
) -> None:
    asked = expression.replace("$__rate_interval", "1m")
    assert within(60, lambda: query(asked) or None)


@pytest.mark.ray
def test_reporting_is_off_in_rays_workers_too(run: dict[str, Any]) -> None:
    assert run["environment"] == {**QUIET, "SOMETHING_ELSE": None}


@pytest.mark.ray
def test_the_dashboard_of_ray_asks_for_its_token(run: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{run['dashboard']}/api/jobs/", timeout=10)
