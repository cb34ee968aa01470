"""The encoder alone, on frames that are in memory: against what a matrix product reaches in the same run, and two
actors on two GPUs against one (`python -m benchmarks.index --encoder-only`)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.floors import BATCH_SEGMENTS, encode, encode_s, frames_in_memory
from flows.models import choose_models, open_model
from tempo_core import Checkpoint, IndexSpec

Row = dict[str, object]
FRAMES = (512, 288)  # of 1080p, as the published geometry makes them
_EDGE, _PRODUCTS, _ROUNDS = 8192, 10, 3
_ATTENTIONS = ("flash", "efficient", "cudnn")


def encoder_rows(checkpoint: Checkpoint, model: str, spec: IndexSpec, batches: int) -> Iterator[Row]:
    """Rounds of product and encoder by turns, their medians, and what a second GPU adds."""
    pixels = frames_in_memory(BATCH_SEGMENTS, FRAMES, spec.segment_frames)
    counted = counted_flops(checkpoint, spec)
    ceilings, seconds = [], []
    for _ in range(_ROUNDS):
        ceilings.append(product_flops_per_s(checkpoint.router.device))
        seconds.append(encode_s(checkpoint, spec, pixels, batches) / BATCH_SEGMENTS)
    ceiling, segment_s = statistics.median(ceilings), statistics.median(seconds)
    yield {
        "way": "encoder",
        "segment_s": segment_s,
        "flops_per_segment": counted,
        "flops_per_s": counted / segment_s,
        "ceiling_flops_per_s": ceiling,
        "share_of_ceiling": counted / segment_s / ceiling,
        "rounds_s": seconds,
    }
    yield two_actors(model, spec, batches)


def counted_flops(checkpoint: Checkpoint, spec: IndexSpec) -> float:
    """Multiplications and additions of products, convolutions and attention for one segment; torch counts them."""
    aten: Any = torch.ops.aten
    shared = {getattr(aten, f"_scaled_dot_product_{kind}_attention"): _attention_flops for kind in _ATTENTIONS}
    with FlopCounterMode(display=False, custom_mapping=shared) as counter:
        encode(checkpoint, spec, frames_in_memory(1, FRAMES, spec.segment_frames))
    return float(counter.get_total_flops())


def _attention_flops(query: Sequence[int], key: Sequence[int], *_: object, **__: object) -> int:
    """Two products; torch's own count refuses heads that share keys."""
    batch, heads, length, width = query
    return 4 * batch * heads * length * key[-2] * width


def product_flops_per_s(device: torch.device) -> float:
    """Of one product of two square matrices: bfloat16 on a GPU; smaller, and float32, on a CPU."""
    on_gpu = device.type == "cuda"
    edge, dtype = (_EDGE, torch.bfloat16) if on_gpu else (1024, torch.float32)
    one, other = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        product = one @ other
    if on_gpu:
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(_PRODUCTS):
        product = one @ other
    if on_gpu:
        torch.cuda.synchronize()
    assert product.shape == one.shape
    return 2.0 * edge**3 * _PRODUCTS / (time.perf_counter() - begin)


class EncodeActor:
    """A model and frames in a process of its own, as a run's actor has them."""

    def __init__(self, model: str, spec: IndexSpec) -> None:
        self._checkpoint, self._spec = open_model(choose_models(model, None, None)), spec
        self._pixels = frames_in_memory(BATCH_SEGMENTS, FRAMES, spec.segment_frames)

    def work(self, batches: int) -> float:
        """Seconds for one batch."""
        return encode_s(self._checkpoint, self._spec, self._pixels, batches)


def two_actors(model: str, spec: IndexSpec, batches: int, gpus: int | None = None) -> Row:
    """Segments per second of two actors over those of one. ``gpus``: how many there are, unless it is to be found."""
    there = torch.cuda.device_count() if gpus is None else gpus
    if there < 2:
        return {"way": "two actors", "left out": f"it takes two GPUs, and this machine has {there}"}
    import ray

    from flows.on_ray.ray_start import start_ray

    remote: Any = ray.remote  # its types know no options
    per_actor = 1 if torch.cuda.is_available() else 0
    with start_ray():
        actors = [remote(num_gpus=per_actor)(EncodeActor).remote(model, spec) for _ in range(2)]
        ray.get([actor.work.remote(1) for actor in actors])
        ratios = [_ratio(actors, batches) for _ in range(_ROUNDS)]
    return {"way": "two actors", "ratio": statistics.median(ratios), "rounds": ratios}


def _ratio(actors: list[Any], batches: int) -> float:
    import ray

    alone = ray.get(actors[0].work.remote(batches))
    together = ray.get([actor.work.remote(batches) for actor in actors])
    return float(sum(alone / seconds for seconds in together))
