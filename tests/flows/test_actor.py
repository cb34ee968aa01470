"""Actors and the decoding tasks that they read: waiting is no video's fault, and a dead actor has a successor."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
import ray
from ray.exceptions import OutOfMemoryError

from flows.models import ModelChoice, identify_model
from flows.on_ray import actor
from flows.on_ray.actor import EncodingActor, WorkerSetup, decode_by_task, item_deadline_s
from flows.on_ray.cluster import ActorPool
from flows.on_ray.ray_start import start_ray
from flows.video.source_frames import DecodeSettings, Sampled, decode_source
from storage import open_library
from tempo_core.errors import CheckpointError, WorkerDied
from tempo_core.sampling import sample_frames, segment_spans
from tempo_core.spec import PAPER, FrameGeometry
from tests.support.faulty_ffmpeg import HANG, FaultyFfmpeg, faulty_ffmpeg
from tests.support.tempo_cli import small_video


def sampled(duration_s: int) -> Sampled:
    spans = segment_spans(sample_frames(Fraction(duration_s), PAPER), PAPER)
    return Sampled(tuple(spans), duration_s, 640, 480, 0.0)


def test_an_item_may_take_a_tenth_of_real_time_however_long_the_video() -> None:
    """A day is 128 segments, so an item of eight covers an hour and a half."""
    assert item_deadline_s(sampled(24 * 3600)) == pytest.approx(actor.ITEM_DEADLINE_S + 10 * 5400)
    assert item_deadline_s(sampled(60)) < actor.ITEM_DEADLINE_S + 10 * 60


def test_an_encoding_process_that_ray_kills_for_memory_has_died_like_any_other() -> None:
    """Ray reports that by an error which is not a RayActorError."""
    killed: Any = OutOfMemoryError
    future: Future[Any] = Future()
    future.set_exception(killed("to make room"))
    with pytest.raises(WorkerDied, match="OutOfMemoryError"):
        ActorPool.result(cast("ActorPool", None), future)


def test_an_actor_computes_with_the_cpus_that_its_container_allows(
    setup: WorkerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr("flows.on_ray.actor.cpu_count", lambda: 3)
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    EncodingActor().ready(setup)
    assert threads == [3]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> WorkerSetup:
    library = open_library(str(tmp_path_factory.mktemp("pool") / "library"), create=True)
    models = ModelChoice("embedded")
    model = identify_model(models)
    return WorkerSetup(models, library.uri, PAPER, "states", model.fingerprints(PAPER))


@pytest.fixture(scope="module")
def ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> FaultyFfmpeg:
    return faulty_ffmpeg(tmp_path_factory.mktemp("ffmpeg"), {"none": HANG})


@pytest.fixture(scope="module")
def machine(ffmpeg: FaultyFfmpeg) -> Iterator[None]:
    """Ray, which is told of two GPUs, and records what is decoded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPO_FFMPEG", ffmpeg.program)
        with start_ray(num_cpus=1, num_gpus=2):
            yield


@pytest.mark.ray
@pytest.mark.slow
def test_a_video_that_waits_long_for_a_cpu_is_read_when_there_is_one(
    machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The videos before it may take hours."""
    monkeypatch.setattr(actor, "OPEN_DEADLINE_S", 3.0)
    uri = str(small_video(tmp_path / "talk.mp4", seconds=1))
    holder: Any = ray.remote(num_cpus=1)(type("Holder", (), {"holds": lambda _: True})).remote()
    assert ray.get(holder.holds.remote())
    settings = DecodeSettings(PAPER, FrameGeometry(), threads=1)
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(decode_by_task, uri, settings, threading.Event())
        with pytest.raises(TimeoutError):
            reading.result(timeout=actor.OPEN_DEADLINE_S + 1)
        ray.kill(holder)
        with closing(reading.result(timeout=120)) as opened:
            assert opened.opened.source.uri == uri


@pytest.mark.ray
@pytest.mark.slow
def test_a_source_that_a_task_reads_is_the_same_as_read_in_this_process(machine: None, tmp_path: Path) -> None:
    uri = str(small_video(tmp_path / "talk.mp4", seconds=8))
    settings = DecodeSettings(PAPER, FrameGeometry(), threads=1)
    far, near = decode_by_task(uri, settings, threading.Event()), decode_source(uri, settings)
    with closing(far), closing(near):
        assert (far.opened.source, far.opened.sha256) == (near.opened.source, near.opened.sha256)
        assert far.sampled() == near.sampled()
        segments = list(near.segments())
        assert len(segments) > 1
        assert list(far.segments()) == segments
        assert far.closed.warnings == near.closed.warnings


@pytest.mark.ray
@pytest.mark.slow
def test_a_source_is_not_decoded_before_its_segments_are_asked_for(
    machine: None, ffmpeg: FaultyFfmpeg, tmp_path: Path
) -> None:
    """It may turn out to be a twin, which is dropped."""
    settings = DecodeSettings(PAPER, FrameGeometry(), threads=1)
    uris = {name: str(small_video(tmp_path / name, seconds=2)) for name in ("twin.mp4", "wanted.mp4")}
    with closing(decode_by_task(uris["twin.mp4"], settings, threading.Event())):
        time.sleep(2.0)
    with closing(decode_by_task(uris["wanted.mp4"], settings, threading.Event())) as wanted:
        wanted.sampled()
        assert list(wanted.segments())
    assert (ffmpeg.count("twin"), ffmpeg.count("wanted")) == (0, 1)


@pytest.fixture(scope="module")
def pool(machine: None, setup: WorkerSetup) -> Iterator[ActorPool]:
    with closing(ActorPool(setup, video_count=2)) as opened:
        yield opened


@pytest.mark.ray
@pytest.mark.slow
def test_nobody_waits_for_the_successor_of_a_dead_actor(pool: ActorPool) -> None:
    ray.kill(pool._actors[0])
    starting = pool.replace(0)
    assert not starting.done()
    assert pool.workers == [1]
    starting.result(timeout=120)
    assert pool.workers == [0, 1]


@pytest.mark.ray
@pytest.mark.slow
def test_a_successor_that_dies_before_it_is_ready_is_an_error_of_the_model(pool: ActorPool) -> None:
    ray.kill(pool._actors[1])
    starting = pool.replace(1)
    ray.kill(pool._actors[1])
    with pytest.raises(CheckpointError, match="did not come up with"):
        pool.result(starting)
    assert pool.workers == [0]
