"""A cluster of two nodes: it takes only what all its nodes see, and S3's bad moments do not end a run on it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.stores.s3_client import file_system
from tests.support import ROOT
from tests.support.alike import assert_alike
from tests.support.s3_server import CREDENTIALS, Fault, Proxy, fault_proxy
from tests.support.tempo_cli import ended, index, lengthen, small_video, start_tempo, statuses

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.slow]
BUCKET = "archive"
SOURCES, LIBRARY = f"s3://{BUCKET}/videos/", f"s3://{BUCKET}/library"
BAD_MOMENTS = [  # no request can meet more of them than it is tried again for, in whatever order they come
    Fault("busy", r"GET /archive/videos/.*mp4", times=3),
    Fault("drop", r"GET /archive/videos/.*mp4", times=2),
    Fault("busy", r"(PUT|POST) /archive/library/parts/", times=4),
    Fault("drop", r"PUT /archive/library/parts/", times=1),
    Fault("busy", r"(GET|PUT) /archive/library/tables/", times=4),
    Fault("drop", r"GET /archive/library/tables/", times=2),
    Fault("busy", r"HEAD /archive|GET /archive(?!/videos/.*mp4|/library/tables/)", times=4),
]


@pytest.fixture(scope="module")
def network(port: int) -> Iterator[Proxy]:
    """The way to S3 for the whole module: the nodes take it from their environment when they start."""
    with fault_proxy(port) as started, pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": started.url}.items():
            patch.setenv(name, value)
        file_system({}).call_s3("create_bucket", Bucket=BUCKET)
        yield started


@pytest.fixture(scope="module")
def cluster(network: Proxy) -> Iterator[str]:
    """Its address; Ray listens on the network here, so a token keeps others out, as the documentation advises."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.support.ray_nodes"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as nodes:
            assert nodes.stdout is not None
            yield nodes.stdout.readline().strip()
            nodes.communicate(timeout=60)


@pytest.fixture(scope="module")
def videos(network: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what lies on S3 too."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate("abcd"):
        video = small_video(folder / f"{name}.mp4", seconds=2 + number)
        video = lengthen(video) if name == "a" else video
        file_system({}).call_s3("put_object", Bucket=BUCKET, Key=f"videos/{video.name}", Body=video.read_bytes())
    network.requests.clear()
    return folder


def test_a_library_that_one_node_sees_is_refused(cluster: str, videos: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    said = ended(start_tempo("index", SOURCES, "--library", library, "--ray", cluster))
    assert said.code == 2, said.err
    line = said.err.splitlines()[-1]
    assert line.startswith(f"tempo: {library} is a place on one machine, and the cluster has 2 nodes")
    assert "s3://" in line


def test_from_s3_to_s3_through_a_bad_network(network: Proxy, cluster: str, videos: Path, tmp_path: Path) -> None:
    process = start_tempo("index", SOURCES, "--library", LIBRARY, "--json", "--ray", cluster)
    assert process.stdout is not None
    first = process.stdout.readline()
    network.faults += [replace(one) for one in BAD_MOMENTS]  # in mid-run
    said = ended(process)
    assert said.code == 0, first + said.out + said.err
    assert [one.times for one in network.faults] == [0] * len(BAD_MOMENTS), "not all of it happened"
    lines = [json.loads(first), *said.json[:-1]]
    assert statuses(lines) == dict.fromkeys((video.name for video in videos.iterdir()), "indexed")
    assert set(statuses(index(tmp_path / "undisturbed", SOURCES, "--ray", "off")).values()) == {"indexed"}
    assert_alike(LIBRARY, tmp_path / "undisturbed")
