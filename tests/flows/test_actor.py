"""The stream of a decoding task as an actor pulls it: waiting for a CPU is no video's fault, a long video no hang."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
import ray
from ray.exceptions import OutOfMemoryError

from flows.on_ray import actor
from flows.on_ray.actor import decode_by_task, item_deadline_s
from flows.on_ray.cluster import ActorPool
from flows.on_ray.ray_start import start_ray
from flows.video.source_frames import DecodeSettings, Sampled
from tempo_core.errors import WorkerDied
from tempo_core.sampling import sample_frames, segment_spans
from tempo_core.spec import PAPER, FrameGeometry
from tests.support.tempo_cli import small_video


def sampled(duration_s: int) -> Sampled:
    spans = segment_spans(sample_frames(Fraction(duration_s), PAPER), PAPER)
    return Sampled(tuple(spans), duration_s, 640, 480, 0.0)


def test_an_item_may_take_a_tenth_of_real_time_however_long_the_video() -> None:
    """A day is 128 segments, so an item of eight covers an hour and a half."""
    assert item_deadline_s(sampled(24 * 3600)) == pytest.approx(actor.ITEM_DEADLINE_S + 10 * 5400)
    assert item_deadline_s(sampled(60)) < actor.ITEM_DEADLINE_S + 10 * 60


def test_an_encoding_process_that_ray_kills_for_memory_has_died_like_any_other() -> None:
    """Ray tells that by an error which is no RayActorError."""
    killed: Any = OutOfMemoryError
    future: Future[Any] = Future()
    future.set_exception(killed("to make room"))
    with pytest.raises(WorkerDied, match="OutOfMemoryError"):
        ActorPool.result(cast("ActorPool", None), future)


@pytest.mark.ray
@pytest.mark.slow
def test_a_video_that_waits_long_for_a_cpu_is_read_when_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The videos before it may take hours."""
    monkeypatch.setattr(actor, "OPEN_DEADLINE_S", 3.0)
    uri = str(small_video(tmp_path / "talk.mp4", seconds=1))
    with start_ray(num_cpus=1):
        hold: Any = ray.remote(lambda: time.sleep(9))
        hold.remote()
        reading = decode_by_task(uri, DecodeSettings(PAPER, FrameGeometry(), threads=1), threading.Event())
        assert reading.opened.source.uri == uri
        reading.close()
