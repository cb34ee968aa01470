"""The fan-out on Ray: one encoding actor per GPU, and decoding tasks on any node that feed it.

Ray core, not Ray Data: both move frames equally fast (2 GB in 4.1 s on two cores), but here each video is committed by
itself, has its own deadlines and its own tries, shares batches with others, and is shown under its own name; in Ray
Data all of that would be hidden in blocks. An actor keeps the model and starts, for each of its videos, a decoding task
whose items it pulls (a stream cannot be handed to another process). A decoder is stopped while it is two items ahead.
Ray places the tasks; nothing here schedules them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from flows.on_ray.actor import ENCODER_SHARE, ENCODING_ACTOR, WorkerSetup, task_name
from flows.on_ray.metrics import RunMetrics
from flows.on_ray.ray_start import connect_ray, start_ray
from flows.video.pool import Metrics, Outcome
from flows.video.worker import Job, WorkerLoad
from tempo_core.errors import CheckpointError, UsageError, WorkerDied

Value = TypeVar("Value")
_ray: Any = ray  # some of its functions have no types

READY_DEADLINE_S = 900.0  # 12 GB of weights from a slow disk


class ActorPool:
    """The actors of a run on the Ray that this process is connected to, and their calls as futures."""

    def __init__(self, setup: WorkerSetup, video_count: int) -> None:
        """Start them, and wait until they have loaded the model."""
        resources = _ray.cluster_resources()
        self.metrics: Metrics | None = RunMetrics()
        self._setup, self._gpus = setup, int(resources.get("GPU", 0))
        count, cpus = max(1, self._gpus), max(1, int(resources.get("CPU", 1)))
        in_software = setup.spec.decoder == "software"
        self._threads = decoder_threads(min(cpus, _largest_node()), video_count) if in_software else 1
        self.slots = min(16, -(-cpus // (self._threads * count)) + 1)
        self._lives: Counter[int] = Counter()
        self._actors: dict[int, Any] = {number: self._started(number) for number in range(count)}
        self._loads: dict[int, WorkerLoad] = {}
        self._asked: dict[int, Future[WorkerLoad]] = {}
        self._starting: dict[int, Future[None]] = {}  # successors of dead actors
        self._starters = ThreadPoolExecutor(count, thread_name_prefix="start-actor")
        self._make_ready(list(self._actors))

    @property
    def workers(self) -> Sequence[int]:
        return [number for number in self._actors if self._is_ready(number)]

    def watch(self, beat: Callable[[], None]) -> None:
        """No call blocks the caller."""

    def open(self, worker: int, job: Job) -> Future[Outcome]:
        """Seen in the dashboard as ``open NAME``."""
        call = self._actors[worker].open.options(name=task_name("open", job.uri))
        return _future(call.remote(job, self._threads))

    def index(self, worker: int, job: Job) -> Future[Outcome]:
        """Seen in the dashboard as ``index NAME``."""
        call = self._actors[worker].index.options(name=task_name("index", job.uri))
        return _future(call.remote(job))

    def drop(self, worker: int, key: int) -> None:
        self._actors[worker].drop.remote(key)

    def result(self, future: Future[Value]) -> Value:
        """An error of the actor's own code is raised as it was there; WorkerDied where the actor is gone."""
        try:
            return future.result()
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:  # RayActorError, or OutOfMemoryError where Ray itself killed it
            raise WorkerDied(f"the encoding process was killed or crashed ({type(error).__name__})") from None

    def loads(self) -> Sequence[WorkerLoad]:
        """What each actor answered last; those that have answered are asked again."""
        for number in self.workers:
            asked = self._asked.get(number)
            if asked is not None and asked.done() and asked.exception() is None:
                self._loads[number] = asked.result()
            if asked is None or asked.done():
                call = self._actors[number].load.options(enable_task_events=False)  # it would fill the dashboard
                self._asked[number] = _future(call.remote())
        return list(self._loads.values())

    def replace(self, worker: int) -> Future[None]:
        """The future holds CheckpointError where the new one dies before it is ready: then no video is the cause."""
        if load := self._loads.get(worker):
            self._loads[worker] = replace(load, queued_segment_count=0, videos=())
        self._asked.pop(worker, None)
        self._actors[worker] = self._started(worker)
        self._starting[worker] = self._starters.submit(self._make_ready, [worker])
        return self._starting[worker]

    def stop(self) -> None:
        """Ask the actors, whose futures are done after their videos' next chunk."""
        for actor in self._actors.values():
            actor.stop.remote()

    def close(self) -> None:
        """Kill the actors; their decoding tasks go with them."""
        for actor in self._actors.values():
            ray.kill(actor)
        self._starters.shutdown()

    def _is_ready(self, number: int) -> bool:
        starting = self._starting.get(number)
        return starting is None or (starting.done() and starting.exception() is None)

    def _started(self, number: int) -> Any:
        shares = self._setup.spec.decoder == "nvdec"
        gpu_share = (ENCODER_SHARE if shares else 1) if self._gpus else 0
        self._lives[number] += 1  # a dead actor's name stays taken for a while: the next one is "encoder 0.2"
        life = f".{self._lives[number]}" if self._lives[number] > 1 else ""
        name = f"encoder {number}{life}" + (" (GPU)" if self._gpus else " (CPU)")
        options = {"name": name, "num_cpus": 0, "num_gpus": gpu_share, "max_concurrency": self.slots + 2}
        return ENCODING_ACTOR.options(**options).remote()

    def _make_ready(self, numbers: Sequence[int]) -> None:
        calls = [self._actors[number].ready.remote(self._setup) for number in numbers]
        try:
            ray.get(calls, timeout=READY_DEADLINE_S)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:  # died, or the deadline
            raise CheckpointError(
                f"an encoding process did not come up with {self._setup.models.in_words} ({type(error).__name__}): "
                "is there memory enough for the model? `ray logs` and the dashboard show more"
            ) from None


@contextmanager
def open_actors(
    address: str | None, setup: WorkerSetup, video_count: int, sources: Sequence[str]
) -> Iterator[ActorPool]:
    """Actors on the cluster at ``address``, or (None) on a Ray of this machine that ends with the context."""
    with start_ray() if address is None else connect_ray(address):
        refuse_local(setup.library, sources)
        pool = ActorPool(setup, video_count)
        try:
            yield pool
        finally:
            pool.close()


def refuse_local(library: str, sources: Sequence[str]) -> None:
    """UsageError on a cluster of several nodes for a path that each of them would look for on its own disk."""
    nodes = sum(node["Alive"] for node in _ray.nodes())
    local = next((uri for uri in [library, *sources] if not uri.startswith("s3://")), None)
    if nodes > 1 and local is not None:
        raise UsageError(
            f"{local} is a place on one machine, and the cluster has {nodes} nodes that would each look on their own: "
            "give library and sources as s3:// addresses, or run on this machine with --ray local"
        )


def decoder_threads(cpus: int, video_count: int) -> int:
    """ffmpeg's threads, and the CPUs that a decoding task asks for: all for one video, four each for many."""
    return max(1, cpus // min(max(1, video_count), max(2, cpus // 4)))


def _largest_node() -> int:
    return max(int(node["Resources"].get("CPU", 0)) for node in _ray.nodes() if node["Alive"]) or 1


def _future(ref: Any) -> Future[Any]:
    future: Future[Any] = ref.future()
    return future
