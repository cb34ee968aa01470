"""What runs in Ray's processes: tasks that decode, and actors that encode what those read."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from flows.environment import prepare
from flows.failure import Failure
from flows.models import ModelChoice
from flows.on_ray.ray_private import ITEMS_AHEAD_OPTION
from flows.text import shortened
from flows.video.source_frames import (
    ITEM_SEGMENTS,
    DecodeSettings,
    Item,
    Opened,
    Sampled,
    SourceReading,
    decoded_items,
)
from flows.video.worker import Job, Staged, Worker, WorkerLoad
from tempo_core.decoding import check_decoder
from tempo_core.errors import CheckpointError, DecoderDied, DecodeTimeout, GpuLost, LibraryError, SourceError
from tempo_core.fingerprints import Fingerprints
from tempo_core.host import cpu_count
from tempo_core.spec import IndexSpec, Keep

ITEMS_AHEAD = 2  # of a decoder, in the object store: 2 MB each at 512x256
CPU_DEADLINE_S = 24 * 3600.0  # for a free CPU: the videos before it may take the night, which is no fault of this one
OPEN_DEADLINE_S = 3900.0  # fetching has an hour of its own
ITEM_DEADLINE_S, SLOWEST_SHARE = 1800.0, 10.0  # and a tenth of real time, as for the decoder: for processes that hang
CANCEL_WAIT_S, CANCEL_ARRIVES_S = 2.0, 0.1
LOOK_S = 0.5  # between two looks whether the run is being stopped
NAME_COLUMNS = 40
# Shares of a GPU: without one, Ray hides it from a task. An encoder has more than half, so that no two are on one GPU;
# eight decoding tasks fill the decoders of an H200 (benchmarks/LOG.md).
NVDEC_SHARE, ENCODER_SHARE = 0.06, 0.52


@dataclass(frozen=True)
class WorkerSetup:
    """What an actor is made of; ``fingerprints`` are those that its model must turn out to have."""

    models: ModelChoice
    library: str
    spec: IndexSpec
    keep: Keep
    fingerprints: Fingerprints


def decode(uri: str, settings: DecodeSettings) -> Generator[Item | None, None, None]:
    """``decoded_items`` in a process of its own, on any node: what crashes there costs one video.

    The first item is None, when the process begins: until then the task waited for a CPU. After ``Opened`` come as many
    as are made ahead, so that no decoder is started before the taker goes on: the source may be a twin, and dropped.
    """
    prepare()
    yield None
    for item in decoded_items(uri, settings):
        yield item
        if isinstance(item, Opened):
            for _ in range(ITEMS_AHEAD):
                yield None


class EncodingActor:
    """A ``Worker`` that keeps its model for the whole run. A dead one is replaced by the driver."""

    def ready(self, setup: WorkerSetup) -> None:
        """Load the model. CheckpointError where this node's weights are not those of the driver, TempoError where its
        ffmpeg cannot do what the spec asks for."""
        import torch

        from flows.models import open_model
        from storage import open_library

        prepare()
        check_decoder(setup.spec)
        if not torch.cuda.is_available():
            torch.set_num_threads(cpu_count())  # Ray leaves one to an actor
        checkpoint = open_model(setup.models)
        if checkpoint.fingerprints(setup.spec) != setup.fingerprints:
            models, node = setup.models.in_words, os.uname().nodename
            raise CheckpointError(f"{models} on node {node} has other weights than on the driver's")
        self._stopping = threading.Event()
        decode = partial(decode_by_task, stopping=self._stopping)
        self._worker = Worker(open_library(setup.library), checkpoint, setup.spec, setup.keep, decode)

    def open(self, job: Job, threads: int) -> Opened | Failure:
        return self._worker.open(job, threads)

    def index(self, job: Job) -> Staged | Failure:
        try:
            return self._worker.index(job)
        except GpuLost:  # the driver starts a new process, and finds out which video caused it
            os._exit(1)

    def drop(self, key: int) -> None:
        self._worker.drop(key)

    @ray.method(concurrency_group="watch")
    def load(self) -> WorkerLoad:
        """Answers also while all other threads of the actor are busy."""
        return self._worker.load()

    @ray.method(concurrency_group="watch")
    def stop(self) -> None:
        """End the videos under way, also those that wait for a decoder."""
        self._stopping.set()
        self._worker.stop()


def decode_by_task(uri: str, settings: DecodeSettings, stopping: threading.Event) -> SourceReading:
    """``decode_source`` by a task of its own, which ends with the reading."""
    return SourceReading(_pulled(uri, settings, stopping))


def _pulled(uri: str, settings: DecodeSettings, stopping: threading.Event) -> Generator[Item, None, None]:
    """The items of a decoding task. SourceError, VideoError; LibraryError once the run is being stopped."""
    task = DECODE.options(name=task_name("decode", uri), **decoder_resources(settings)).remote(uri, settings)
    try:
        if not _is_ready(task, CPU_DEADLINE_S, stopping):
            raise SourceError(f"no CPU was free to read it for {CPU_DEADLINE_S / 3600:.0f} h")
        ray.get(next(task))
        yield from _items(task, stopping)
    except RayTaskError as error:
        raise error.cause from None
    except OutOfMemoryError:
        raise MemoryError("the process that read it was stopped: this node is short of memory") from None
    except RayError as error:
        raise DecoderDied(f"the process that read it died ({type(error).__name__})") from None
    except (GeneratorExit, DecodeTimeout, SourceError, LibraryError):  # the rest will not be read
        _end(task)
        raise


def _items(task: Any, stopping: threading.Event) -> Generator[Item, None, None]:
    deadline_s = OPEN_DEADLINE_S
    while True:
        if not _is_ready(task, deadline_s, stopping):
            raise DecodeTimeout(f"nothing was read for {deadline_s:.0f} s, and reading it was given up")
        try:
            item = ray.get(next(task))
        except StopIteration:
            return
        if item is None:
            continue
        yield item
        if isinstance(item, Opened | Sampled):
            deadline_s = item_deadline_s(item)


def decoder_resources(settings: DecodeSettings) -> dict[str, float]:
    """What a decoding task asks Ray for."""
    return {"num_cpus": settings.threads or 1, "num_gpus": NVDEC_SHARE if settings.spec.decoder == "nvdec" else 0}


def item_deadline_s(before: Opened | Sampled) -> float:
    """Seconds that an item after ``before`` may take: in a day of video it covers an hour and a half."""
    spans = before.spans if isinstance(before, Sampled) else ()
    items = [spans[first : first + ITEM_SEGMENTS] for first in range(0, len(spans), ITEM_SEGMENTS)]
    return ITEM_DEADLINE_S + SLOWEST_SHARE * max((item[-1].end_s - item[0].start_s for item in items), default=0.0)


def _is_ready(task: Any, deadline_s: float, stopping: threading.Event) -> bool:
    """Whether the next item, or the end, came in time; LibraryError once the run is being stopped."""
    deadline = time.monotonic() + deadline_s
    while not stopping.is_set():
        left_s = max(0.0, deadline - time.monotonic())
        if ray.wait([task], timeout=min(LOOK_S, left_s))[0]:
            return True
        if left_s == 0.0:
            return False
    raise LibraryError("stopped before it was whole")


def _end(task: Any) -> None:
    """Ask the task to end, which it can do between two items; kill its process if it does not (a hanging read)."""
    deadline = time.monotonic() + CANCEL_WAIT_S
    with suppress(RayError, StopIteration):
        ray.cancel(task)
        ray.wait([task.completed()], timeout=CANCEL_ARRIVES_S)  # taking an item first would let it make the next one
        while ray.wait([task], timeout=max(0.0, deadline - time.monotonic()))[0]:
            ray.get(next(task))
        ray.cancel(task, force=True)


def task_name(verb: str, uri: str) -> str:
    """The name of a task in the dashboard: ``decode talk.mp4``."""
    return f"{verb} {shortened(uri.rsplit('/', 1)[-1], NAME_COLUMNS)}"


_remote: Any = ray.remote  # its types have neither streams nor groups of methods
DECODE = _remote(num_returns="streaming", max_retries=0, **{ITEMS_AHEAD_OPTION: ITEMS_AHEAD})(decode)
ENCODING_ACTOR = _remote(max_restarts=0, concurrency_groups={"watch": 1})(EncodingActor)
