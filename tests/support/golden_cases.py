"""The golden values of the published method (golden/README.md) as typed values, and the checkpoint they belong to.

What is expensive is made once per process and shared: treat it as read-only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tempo_core.sampling import Sampling, SegmentSpan, segment_spans
from tempo_core.spec import PAPER, IndexSpec
from tempo_core.values import ByteArray, FloatArray, SegmentPixels, SegmentState
from tests.support import ROOT

if TYPE_CHECKING:
    from tempo_core.prefix_cache import PrefixCache
    from tempo_core.stock_checkpoint import StockCheckpoint
    from tempo_core.tempo_checkpoint import TempoCheckpoint

GOLDEN = ROOT / "tests" / "golden"
TEMPO = GOLDEN / "tiny-tempo"
BASE = GOLDEN / "tiny-qwen3-vl"
CASE_NAMES = ("a", "b", "c", "d")
PADDING = 457  # <|endoftext|>, which fills the golden prompts on the right

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GoldenCase:
    """One case. Arrays as in golden/README.md; ``spec`` samples the case's frames from a video of them."""

    name: str
    question: str
    fps: float
    token_budget: int
    tags: tuple[str, ...]
    first_prompt: str
    frames: ByteArray = field(repr=False)
    pixels: FloatArray = field(repr=False)
    grids: tuple[tuple[int, int, int], ...]
    input_ids: IntArray = field(repr=False)
    scores: npt.NDArray[np.float64]
    allocation: IntArray
    features: FloatArray = field(repr=False)
    llm_embeds: FloatArray = field(repr=False)
    next_logits: FloatArray = field(repr=False)
    generated: IntArray

    @property
    def spec(self) -> IndexSpec:
        return replace(PAPER, name=f"golden-{self.name}", frames_per_second=self.fps, state_dtype="float32")

    @property
    def sampling(self) -> Sampling:
        return Sampling(len(self.frames), len(self.frames) / Fraction(self.fps))

    @property
    def spans(self) -> list[SegmentSpan]:
        return segment_spans(self.sampling, self.spec)

    @property
    def tag_times_s(self) -> list[float]:
        return [span.tag_time_s for span in self.spans]

    @property
    def segments(self) -> list[SegmentPixels]:
        """The golden pixels, cut into segments."""
        ends = np.cumsum([pairs * rows * columns for pairs, rows, columns in self.grids])
        pieces = np.split(self.pixels, ends[:-1])
        return [
            SegmentPixels(piece, grid, span.pair_times_s)
            for piece, grid, span in zip(pieces, self.grids, self.spans, strict=True)
        ]


@cache
def golden_case(name: str) -> GoldenCase:
    arrays = _arrays()
    told = next(case for case in json.loads((GOLDEN / "cases.json").read_text()) if case["name"] == name)
    return GoldenCase(
        name=name,
        question=told["query"],
        fps=told["fps"],
        token_budget=told["budget"],
        tags=tuple(told["timestamps"]),
        first_prompt=told["svlm_text0"],
        frames=arrays[f"{name}/frames"],
        pixels=arrays["a/pixels" if name == "b" else f"{name}/pixels"],
        grids=tuple((int(t), int(h), int(w)) for t, h, w in arrays[f"{name}/grid"]),
        input_ids=arrays[f"{name}/input_ids"],
        scores=arrays[f"{name}/scores"],
        allocation=arrays[f"{name}/alloc"],
        features=arrays[f"{name}/features"],
        llm_embeds=arrays[f"{name}/llm_embeds"],
        next_logits=arrays[f"{name}/next_logits"],
        generated=arrays[f"{name}/generated"],
    )


@cache
def _arrays() -> Mapping[str, npt.NDArray[Any]]:
    with np.load(GOLDEN / "golden.npz") as arrays:
        return dict(arrays)


@cache
def golden_checkpoint(dtype: str = "float32") -> TempoCheckpoint:
    import torch

    from tempo_core import load_checkpoint
    from tempo_core.tempo_checkpoint import TempoCheckpoint

    torch.set_num_threads(1)  # so small a model only waits for a second one
    checkpoint = load_checkpoint(TEMPO, dtype=dtype)
    assert isinstance(checkpoint, TempoCheckpoint)
    return checkpoint


@cache
def stock_checkpoint(dtype: str = "float32") -> StockCheckpoint:
    """The golden checkpoint's base, which is a whole Qwen3-VL with random weights."""
    from tempo_core import load_checkpoint
    from tempo_core.stock_checkpoint import StockCheckpoint

    checkpoint = load_checkpoint(BASE, dtype=dtype)
    assert isinstance(checkpoint, StockCheckpoint)
    return checkpoint


@cache
def golden_states(name: str) -> tuple[SegmentState, ...]:
    if name == "b":  # the same frames at the same times
        return golden_states("a")
    return tuple(golden_checkpoint().compressor.encode(golden_case(name).segments))


@cache
def golden_prefix(name: str) -> PrefixCache:
    if name == "b":
        return golden_prefix("a")
    return golden_checkpoint().compressor.prefill(golden_states(name))


def small_segment(
    grid_thw: tuple[int, int, int] = (1, 4, 4), first_time_s: float = 0.5, seed: int = 0
) -> SegmentPixels:
    """A segment of noise, as uint8 patches; the smallest grid is four visual tokens a frame pair."""
    pairs, rows, columns = grid_thw
    patches = np.random.default_rng(seed).integers(0, 256, (pairs * rows * columns, 1536), dtype=np.uint8)
    return SegmentPixels(patches, grid_thw, tuple(first_time_s + pair for pair in range(pairs)))
