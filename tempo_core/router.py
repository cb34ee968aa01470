"""A small vision-language model (SVLM), split where the question begins: states at index time, relevance at query time.

    encode    pixels -> visual states            vision tower only (stored)
    prefill   states -> prefix KV caches         as every ``FeatureModel``
    read      prefix + question -> scores        relevance at the last prompt token

Shapes: B segments, T frame pairs, S visual tokens, L = 1 + deepstack levels, D hidden, Q question tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tempo_core.errors import UsageError
from tempo_core.feature_model import FeatureModel, Segments, finite
from tempo_core.prefix_cache import QuestionCache
from tempo_core.prompts import PromptEncoder
from tempo_core.spec import StateDtype
from tempo_core.states import pack_rows
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

    @torch.inference_mode()
    def encode(self, segments: Sequence[SegmentPixels], state_dtype: StateDtype | None = None) -> list[SegmentState]:
        """Visual states of segments, in order. ``state_dtype``: how rows are kept; default, the model's own."""
        dtype = state_dtype or ("bfloat16" if self.dtype == torch.bfloat16 else "float32")
        _check_shapes(segments)
        by_shape: dict[tuple[tuple[int, int, int], np.dtype[Any]], list[int]] = defaultdict(list)
        for index, segment in enumerate(segments):
            by_shape[segment.grid_thw, segment.patches.dtype].append(index)
        states: dict[int, SegmentState] = {}
        for (grid, _), indices in by_shape.items():
            for start in range(0, len(indices), self._batch):
                group = indices[start : start + self._batch]
                visual = self._encode_batch([segments[i].patches for i in group], grid)
                rows = pack_rows(visual, dtype).cpu().numpy()
                for row, i in enumerate(group):
                    states[i] = SegmentState(rows[row], dtype, grid, segments[i].pair_times_s)
        return [states[i] for i in range(len(segments))]

    def _encode_batch(self, patches: list[Any], grid: tuple[int, int, int]) -> torch.Tensor:
        """[B, L, S, D] of segments that share a grid."""
        pixels = torch.from_numpy(np.concatenate(patches)).to(self.device)
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

    @torch.inference_mode()
    def read(self, segments: Segments, question: str) -> QuestionCache:
        """The question prefilled behind every prefix, with each segment's relevance."""
        prefix = self._prefix(segments)
        suffix = self._prompts.question_suffix(question)
        kv = self._new_kv(len(prefix), len(suffix))
        logits = []
        for start, batch in zip(range(0, len(prefix), self._batch), self._batches(prefix), strict=True):
            hidden = self._last_hidden(batch, suffix, kv[:, :, start : start + len(batch)])
            logits.append(hidden.float() @ self._direction)
        # tested before the sigmoid, which makes a finite score of an infinite logit
        scores = finite(torch.cat(logits)).sigmoid() if logits else torch.zeros(0)
        return QuestionCache(prefix, kv, scores.cpu().numpy(), question)


def _check_shapes(segments: Sequence[SegmentPixels]) -> None:
    for index, segment in enumerate(segments):
        pairs, rows, columns = segment.grid_thw
        if len(segment.patches) != pairs * rows * columns or len(segment.pair_times_s) != pairs:
            raise UsageError(
                f"segment {index}: {len(segment.patches)} patches and {len(segment.pair_times_s)} times "
                f"do not fit a grid of {pairs} frame pairs of {rows} x {columns} patches"
            )
