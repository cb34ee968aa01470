"""Runs in Prefect: from the terminal, served by ``tempo schedule``, by a worker; a real server, real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from flows.on_prefect.flow import WITH_FAILURES
from storage import open_library
from tempo_core.decoding import find_ffmpeg
from tests.support import ROOT
from tests.support.prefect_server import (
    DEADLINE_S,
    PrefectServer,
    group,
    no_processes,
    prefect_server,
    processes,
    until,
)
from tests.support.tempo_cli import ended, small_video, start_tempo, statuses, tempo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TEMPO = [sys.executable, "-m", "flows.cli"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as started:
        yield started


@pytest.fixture
def archive(archive: Path) -> Path:
    """One video, and one file that is none; both are old enough to be complete."""
    small_video(archive / "a.mp4")
    (archive / "bad.mp4").write_text("no video")
    for path in archive.iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    return archive


def held_ffmpeg(folder: Path) -> tuple[str, Path]:
    """An ffmpeg that decodes nothing while the file beside it is there."""
    program, hold = folder / "held-ffmpeg", folder / "hold"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *-filters*|*-version*|*-decoders*) ;; '
        f'*) while [ -e "{hold}" ]; do sleep 0.2; done ;; esac\nexec "{find_ffmpeg()}" "$@"\n'
    )
    program.chmod(0o755)
    hold.touch()
    return str(program), hold


def decoding(server: PrefectServer) -> bool | None:
    """True while a run holds at its video."""
    return any("held-ffmpeg" in line for line in processes(server).values()) or None


def clean(library: Path) -> None:
    """Nothing half, nothing left over."""
    opened = open_library(str(library))
    assert opened.verify() == []
    assert opened.status().unreferenced_bytes == 0


# --- from the terminal -----------------------------------------------------------------------------------------------


def test_a_run_from_the_terminal_appears_in_prefect_and_says_the_same(
    server: PrefectServer, archive: Path, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    said = ended(start_tempo("index", archive, "--library", library, "--json", **server.environment))
    expected = tempo("index", archive, "--library", tmp_path / "plain", "--json", code=3)
    assert said.code == 3, said.err
    assert statuses(said.json[:-1]) == statuses(expected.json[:-1]) == {"a.mp4": "indexed", "bad.mp4": "failed"}
    assert said.json[-1]["counts"] == expected.json[-1]["counts"]
    told = [line for line in said.err.splitlines() if not line.startswith("in Prefect: ")]
    assert told == expected.err.splitlines()
    run = re.search(r"in Prefect: \S+/([0-9a-f-]{36})", said.err)
    assert run is not None
    assert_all_is_there(server, run[1], library)


def assert_all_is_there(server: PrefectServer, run: str, library: Path) -> None:
    """State, name, logs and artifacts of a run over ``archive``."""
    state = server.wait(run, "COMPLETED")
    assert (state["name"], "1 indexed, 1 failed" in state["message"]) == (WITH_FAILURES, True)
    assert re.fullmatch(rf"{library.name}, \d{{4}}-\d\d-\d\d \d\d:\d\d", server.get(f"/flow_runs/{run}")["name"])
    found = server.artifacts(run)
    assert found.keys() == {"tempo-run", "tempo-videos", "tempo-failures"}
    assert [row["status"] for row in json.loads(found["tempo-videos"])] == ["failed", "indexed"]
    assert "bad.mp4" in found["tempo-failures"]
    lines = until(lambda: [line for line in server.logs(run) if "bad.mp4" in line[1]] or None, "logs of the run")
    assert [level for level, _ in lines] == [40]


def test_a_run_that_cannot_be_done_fails_in_prefect_with_its_reason(
    server: PrefectServer, archive: Path, tmp_path: Path
) -> None:
    arguments = ("index", archive, "--library", tmp_path / "library", "--model", tmp_path / "nope")
    said = ended(start_tempo(*arguments, **server.environment))
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("tempo: no checkpoint at")
    assert "Traceback" not in said.err
    (run,) = server.post("/flow_runs/filter", sort="EXPECTED_START_TIME_DESC", limit=1)
    assert run["state"]["type"] == "FAILED"
    assert "no checkpoint at" in run["state"]["message"]


# --- served ----------------------------------------------------------------------------------------------------------


def test_a_served_schedule_runs_waits_its_turn_is_cancelled_and_ends(
    server: PrefectServer, archive: Path, tmp_path: Path
) -> None:
    """One process serves all: to start one takes longer than all that is seen here."""
    library = tmp_path / "library"
    ffmpeg, hold = held_ffmpeg(tmp_path)
    command = [*TEMPO, "schedule", str(archive), "--library", str(library), "--cron", "0 1 * * *", "--name", "night"]
    with (tmp_path / "log").open("w") as log, group(command, {**server.environment, "TEMPO_FFMPEG": ffmpeg}, log) as it:
        night = server.deployment("night")
        assert (night["parameters"]["sources"], night["concurrency_options"]["collision_strategy"]) == (
            [str(archive)],
            "ENQUEUE",
        )
        assert_wrong_parameters_start_nothing(server, night)
        first = server.trigger(night)
        until(lambda: decoding(server), "the first run to decode")
        second = server.trigger(night)
        server.wait(second, "AwaitingConcurrencySlot")
        assert server.state(first)["type"] == "RUNNING"
        of_the_run = set(processes(server)) - {os.getpid(), it.pid}
        server.post(f"/flow_runs/{first}/set_state", state={"type": "CANCELLING"})
        server.wait(first, "CANCELLED")
        assert_all_end(of_the_run)
        until(lambda: any("run was cancelled" in said for _, said in server.logs(first)) or None, "its own last word")
        clean(library)
        hold.unlink()
        assert_all_is_there(server, second, library)
        hold.touch()
        small_video(archive / "b.mp4", seconds=3)
        assert_a_signal_ends_it_and_its_run(server, it, night)
    clean(library)


def assert_wrong_parameters_start_nothing(server: PrefectServer, deployment: Any) -> None:
    wrongs: list[dict[str, Any]] = [{"library": "gs://x/y"}, {"until": "25:00"}, {"sources": []}, {"spec": "nope"}]
    for wrong in wrongs:
        with pytest.raises(HTTPError) as refused:
            server.trigger(deployment, **wrong)
        assert refused.value.code in {409, 422}
        assert str(next(iter(wrong))) in refused.value.read().decode()
    states = {"state": {"type": {"not_any_": ["SCHEDULED"]}}}  # the schedule's own runs of the coming nights
    assert server.post("/flow_runs/filter", deployments={"id": {"any_": [deployment["id"]]}}, flow_runs=states) == []


def assert_all_end(before: set[int]) -> None:
    """Also an ffmpeg that would have gone on for ever."""
    until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in before) or None, "the cancelled run's processes to end"
    )


def assert_a_signal_ends_it_and_its_run(server: PrefectServer, serving: subprocess.Popen[str], deployment: Any) -> None:
    run = server.trigger(deployment, settle_s=0)
    until(lambda: decoding(server), "the last run to decode")
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(timeout=DEADLINE_S) == 0
    until(lambda: no_processes(server), "all processes to end")
    assert server.state(run)["type"] == "CANCELLED"
    assert server.get(f"/deployments/{deployment['id']}")["paused"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--cron", "61 * * * *"], "--cron '61 * * * *' cannot be used"),
        (["--cron", "soon"], "--cron 'soon' cannot be used"),
        (["--cron", "0 1 * * *", "--timezone", "Mars"], "--timezone 'Mars' cannot be used"),
        (["--cron", "0 1 * * *", "--until", "25:00"], "not a time of day"),
        (["--cron", "0 1 * * *", "--spec", "nope"], "no index spec 'nope'"),
        (["--cron", "0 1 * * *", "--name", "a/b"], "Prefect takes no /"),
    ],
    ids=str,
)
def test_a_slip_is_seen_before_anything_is_scheduled(
    server: PrefectServer, archive: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], reason: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    said = tempo("schedule", archive, "--library", archive.parent / "library", *options, code=2)
    assert reason in said.err
    assert (
        server.post("/deployments/filter", deployments={"tags": {"all_": ["tempo"]}, "name": {"any_": ["library"]}})
        == []
    )


def test_a_source_that_is_not_there_is_seen_before_the_night(tmp_path: Path) -> None:
    said = tempo("schedule", tmp_path / "nope", "--library", tmp_path / "lib", "--cron", "0 1 * * *", code=2)
    assert "no such file or folder" in said.err


# --- by a worker -----------------------------------------------------------------------------------------------------


def test_a_worker_runs_what_the_prefect_file_deploys(server: PrefectServer, archive: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    server.post("/work_pools/", name="tempo", type="process", concurrency_limit=1)
    prefect = str(Path(sys.executable).with_name("prefect"))
    deploy = [prefect, "--no-prompt", "deploy", "--prefect-file", "infra/prefect.yaml", "--name", "nightly"]
    environment = {**os.environ, **server.environment, "PWD": str(ROOT)}
    done = subprocess.run(deploy, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    nightly = server.deployment("nightly")
    assert (nightly["work_pool_name"], nightly["schedules"][0]["schedule"]["cron"]) == ("tempo", "0 1 * * *")
    assert nightly["global_concurrency_limit"]["limit"] == 1
    run = server.trigger(nightly, sources=[str(archive)], library=str(library), until=None)
    worker = [prefect, "worker", "start", "--pool", "tempo"]
    with (tmp_path / "worker.log").open("w") as log, group(worker, server.environment, log):
        assert_all_is_there(server, run, library)
    until(lambda: no_processes(server), "the worker to end")
    clean(library)
