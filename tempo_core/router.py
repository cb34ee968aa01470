"""A small vision-language model (SVLM), split where the question begins: states at index time, relevance at query time.

    encode    pixels -> visual states            vision tower only (stored)
    prefill   states -> prefix KV caches         as every ``FeatureModel``
    read      prefix + question -> scores        relevance at the last prompt token

Shapes: B segments, T frame pairs, S visual tokens, L = 1 + deepstack levels, D hidden, Q question tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from tempo_core.errors import UsageError
from tempo_core.feature_model import FeatureModel, Segments, finite
from tempo_core.modules import compile_layers
from tempo_core.prefix_cache import PrefixCache, QuestionCache, passes_of, slices
from tempo_core.prompts import PromptEncoder
from tempo_core.spec import StateDtype
from tempo_core.states import DeviceState, pack_rows, to_device, to_host
from tempo_core.values import FloatArray, SegmentPixels, SegmentState


class Router(FeatureModel):
    """The SVLM, with its own vision tower."""

    def __init__(
        self,
        vision: nn.Module,
        text: nn.Module,
        relevance_direction: torch.Tensor,
        prompts: PromptEncoder,
        batch_segments: int = 32,
    ) -> None:
        super().__init__(text, prompts, int(vision.spatial_merge_size), batch_segments)  # type: ignore[arg-type]
        self._vision: Any = vision
        self._direction = relevance_direction  # [D] float32: lm_head row of the positive token minus the negative's

    def pair_tokens(self, grid_thw: tuple[int, int, int], time_s: float) -> int:
        """Prompt tokens of one frame pair, its time tag among them."""
        return self._prompts.pair_tokens(time_s, grid_thw[1] // self._merge, grid_thw[2] // self._merge)

    def compile(self) -> None:
        super().compile()
        compile_layers(self._vision.blocks)

    def encode(self, segments: Sequence[SegmentPixels], state_dtype: StateDtype | None = None) -> list[SegmentState]:
        """Visual states of segments, in order. ``state_dtype``: how rows are kept; default, the model's own."""
        return to_host(self.encode_on_device(segments, state_dtype))()

    @torch.inference_mode()
    def encode_on_device(
        self, segments: Sequence[SegmentPixels], state_dtype: StateDtype | None = None
    ) -> list[DeviceState]:
        """The same before they leave the device: ``prefill`` takes them there, ``to_host`` copies them."""
        dtype = state_dtype or ("bfloat16" if self.dtype == torch.bfloat16 else "float32")
        _check_shapes(segments)
        by_shape: dict[tuple[tuple[int, int, int], np.dtype[Any]], list[int]] = defaultdict(list)
        for index, segment in enumerate(segments):
            by_shape[segment.grid_thw, segment.patches.dtype].append(index)
        states: dict[int, DeviceState] = {}
        for (grid, _), indices in by_shape.items():
            for start in range(0, len(indices), self._batch):
                group = indices[start : start + self._batch]
                visual = self._encode_batch([segments[i].patches for i in group], grid)
                for rows, i in zip(pack_rows(visual, dtype), group, strict=True):
                    states[i] = DeviceState(rows, dtype, grid, segments[i].pair_times_s)
        return [states[i] for i in range(len(segments))]

    def _encode_batch(self, patches: list[Any], grid: tuple[int, int, int]) -> torch.Tensor:
        """[B, L, S, D] of segments that share a grid."""
        pixels = to_device(patches, self.device)
        if pixels.dtype == torch.uint8:
            pixels = (pixels.float() - 127.5) / 127.5  # this order gives the published float32 pixels bit for bit
        grids = torch.tensor([grid] * len(patches), device=self.device)
        # cuDNN would run the patch embedding's float32 convolution in TF32: 1e-4 off in a score instead of 1e-7
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            out = self._vision(pixels, grid_thw=grids)
        levels = torch.stack([out.pooler_output, *out.deepstack_features])
        visual: torch.Tensor = levels.unflatten(1, (len(patches), -1)).transpose(0, 1)
        return visual

    def relevance(self, segments: Segments, question: str) -> FloatArray:
        """sigmoid(h . (w_Yes - w_No)), float32 (B,), h the last prompt token's final-normed hidden state (paper)."""
        return self.read(segments, question).scores

    def read(self, segments: Segments, question: str) -> QuestionCache:
        """The question prefilled behind every prefix, with each segment's relevance."""
        return self.read_slabs([self._prefix(segments)], question)[0]

    @torch.inference_mode()
    def read_slabs(self, slabs: Sequence[PrefixCache], question: str) -> list[QuestionCache]:
        """The same of each slab. Those that are on the device at once share passes, which wait for fewer launches."""
        suffix = self._prompts.question_suffix(question)
        kv = self._new_kv(len(suffix) * sum(map(len, slabs)))
        logits, first = [torch.zeros(0, device=self.device)], 0
        for taken in passes_of([[len(suffix)] * len(slab) for slab in slabs]):
            part = slices(taken, slabs)
            last = first + len(suffix) * sum(map(len, part))
            logits.append(self._last_hidden(part, suffix, kv[:, :, first:last]).float() @ self._direction)
            first = last
        # tested before the sigmoid, which makes a finite score of an infinite logit
        scores = finite(torch.cat(logits)).sigmoid().cpu().numpy()
        bounds = pairwise(accumulate(map(len, slabs), initial=0))
        return [
            QuestionCache(slab, kv[:, :, start * len(suffix) : stop * len(suffix)], scores[start:stop], question)
            for slab, (start, stop) in zip(slabs, bounds, strict=True)
        ]


def _check_shapes(segments: Sequence[SegmentPixels]) -> None:
    for index, segment in enumerate(segments):
        pairs, rows, columns = segment.grid_thw
        if len(segment.patches) != pairs * rows * columns or len(segment.pair_times_s) != pairs:
            raise UsageError(
                f"segment {index}: {len(segment.patches)} patches and {len(segment.pair_times_s)} times "
                f"do not fit a grid of {pairs} frame pairs of {rows} x {columns} patches"
            )
