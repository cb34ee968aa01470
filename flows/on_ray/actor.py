"""What runs in Ray's processes: decoding tasks, and the actors that encode what those read."""

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
from flows.text import one_line, shortened
from flows.video.pool import Job
from flows.video.source_frames import ITEM_SEGMENTS, DecodePlan, Item, Opened, Sampled, decode_source
from flows.video.worker import Staged, Worker, WorkerLoad
from tempo_core.decoding import check_decoder
from tempo_core.errors import CheckpointError, DecoderDied, DecodeTimeout, GpuLost, LibraryError, SourceError
from tempo_core.fingerprints import Fingerprints
from tempo_core.spec import IndexSpec

ITEMS_AHEAD = 2  # of a decoder, in the object store: 2 MB each at 512x256
CPU_DEADLINE_S = 24 * 3600.0  # for a free CPU: the videos before it may take the night, and be no fault of its own
OPEN_DEADLINE_S = 3900.0  # fetching has an hour of its own
ITEM_DEADLINE_S, SLOWEST_SHARE = 1800.0, 10.0  # and a tenth of real time, as for the decoder: for processes that hang
CANCEL_WAIT_S = 2.0
LOOK_S = 0.5  # whether the run is being stopped
NAME_COLUMNS = 40
# Of a GPU: without a share, Ray hides it from a task. More than half for an encoder, so that no two share one; eight
# readers fill the decoders of an H200 (benchmarks/LOG.md).
NVDEC_SHARE, ENCODER_SHARE = 0.06, 0.52


@dataclass(frozen=True)
class WorkerSetup:
    """What an actor needs to begin; ``prints`` is what its model must turn out to be."""

    model: str
    library: str
    spec: IndexSpec
    prints: Fingerprints


def decode(uri: str, plan: DecodePlan) -> Generator[Item | None, None, None]:
    """``decode_source`` in a process of its own, on any node: what crashes there costs one video.

    It gives None when it begins: until then it waited for a CPU.
    """
    prepare()
    yield None
    yield from decode_source(uri, plan)


class EncodingActor:
    """A ``Worker`` that keeps its model for the whole run. A dead one is replaced by the driver."""

    def ready(self, setup: WorkerSetup) -> None:
        """Load the model; CheckpointError where this node's weights are not those of the driver, TempoError where its
        ffmpeg cannot do what the spec asks for."""
        import torch

        from flows.models import open_model
        from storage import open_library

        prepare()
        check_decoder(setup.spec)
        if not torch.cuda.is_available():
            torch.set_num_threads(os.cpu_count() or 1)  # Ray leaves one to an actor
        checkpoint = open_model(setup.model)
        if checkpoint.fingerprints(setup.spec) != setup.prints:
            raise CheckpointError(f"{setup.model} on node {os.uname().nodename} has other weights than on the driver's")
        self._stopping = threading.Event()
        decode = partial(decode_by_task, stopping=self._stopping)
        self._worker = Worker(open_library(setup.library), checkpoint, setup.spec, decode)

    def open(self, job: Job, threads: int) -> Opened | Failure:
        """Begin to read a source."""
        return self._worker.open(job.key, job.uri, threads)

    def index(self, job: Job, prints: Fingerprints) -> Staged | Failure:
        """Stage a video."""
        try:
            return self._worker.index(job.key, job.uri, job.video_id, prints, job.kept)
        except GpuLost:  # the driver starts a new process, and finds out which video did it
            os._exit(1)

    def drop(self, key: int) -> None:
        """Let go of a source."""
        self._worker.drop(key)

    @ray.method(concurrency_group="watch")
    def load(self) -> WorkerLoad:
        """What it is at, also while all its other threads are busy."""
        return self._worker.load()

    @ray.method(concurrency_group="watch")
    def stop(self) -> None:
        """Let the videos under way end, also those that wait for a decoder."""
        self._stopping.set()
        self._worker.stop()


def decode_by_task(uri: str, plan: DecodePlan, stopping: threading.Event) -> Generator[Item, None, None]:
    """The stream of a decoding task, as ``decode_source`` would give it; the task ends with the generator."""
    task = DECODE.options(name=task_name("decode", uri), **decoder_place(plan)).remote(uri, plan)
    try:
        if not _is_ready(task, CPU_DEADLINE_S, stopping):
            raise SourceError(f"no CPU was free to read it for {CPU_DEADLINE_S / 3600:.0f} h")
        ray.get(next(task))
        deadline_s = OPEN_DEADLINE_S
        while True:
            if not _is_ready(task, deadline_s, stopping):
                raise DecodeTimeout(f"nothing was read for {deadline_s:.0f} s, and reading it was given up")
            try:
                item = ray.get(next(task))
            except StopIteration:
                return
            yield item
            if isinstance(item, Opened | Sampled):
                deadline_s = item_deadline_s(item)
    except RayTaskError as error:
        raise error.cause from None
    except OutOfMemoryError:
        raise MemoryError("the process that read it was stopped: this node is short of memory") from None
    except RayError as error:
        raise DecoderDied(f"the process that read it died ({type(error).__name__})") from None
    except (GeneratorExit, DecodeTimeout, SourceError, LibraryError):  # nobody wants the rest
        _end(task)
        raise


def decoder_place(plan: DecodePlan) -> dict[str, float]:
    """What a decoding task asks Ray for."""
    return {"num_cpus": plan.threads or 1, "num_gpus": NVDEC_SHARE if plan.spec.decoder == "nvdec" else 0}


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
    """Ask the task to end, which it hears between two items; kill its process if it does not (a hanging read)."""
    deadline = time.monotonic() + CANCEL_WAIT_S
    with suppress(RayError, StopIteration):
        ray.cancel(task)
        while ray.wait([task], timeout=max(0.0, deadline - time.monotonic()))[0]:
            ray.get(next(task))
        ray.cancel(task, force=True)


def task_name(verb: str, uri: str) -> str:
    """How a task is called in the dashboard: ``decode talk.mp4``."""
    return f"{verb} {shortened(one_line(uri.rsplit('/', 1)[-1]), NAME_COLUMNS)}"


_remote: Any = ray.remote  # its types know neither streams nor groups of methods
DECODE = _remote(num_returns="streaming", max_retries=0, _generator_backpressure_num_objects=ITEMS_AHEAD)(decode)
ENCODING_ACTOR = _remote(max_restarts=0, concurrency_groups={"watch": 1})(EncodingActor)
