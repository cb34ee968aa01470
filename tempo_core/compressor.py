"""The fine-tuned SVLM of Tempo: a router that also compresses what it routes into memory tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from tempo_core.errors import UsageError
from tempo_core.feature_model import Segments
from tempo_core.prefix_cache import LayerCache, QuestionCache, suffix_mask
from tempo_core.prompts import PromptEncoder
from tempo_core.router import Router
from tempo_core.values import FloatArray


class Compressor(Router):
    """``memory_tokens``: [max memory tokens, D], as the checkpoint has learned them."""

    def __init__(
        self,
        vision: nn.Module,
        text: nn.Module,
        memory_tokens: torch.Tensor,
        relevance_direction: torch.Tensor,
        prompts: PromptEncoder,
        batch_segments: int = 32,
    ) -> None:
        super().__init__(vision, text, relevance_direction, prompts, batch_segments)
        self._memory_tokens = memory_tokens

    @property
    def max_memory_tokens(self) -> int:
        """Memory tokens that the checkpoint has learned (128 as published)."""
        return int(self._memory_tokens.shape[0])

    @torch.inference_mode()
    def compress(
        self, segments: Segments | QuestionCache, question: str, tokens: Sequence[int] | np.ndarray
    ) -> list[FloatArray]:
        """The first ``tokens[i]`` memory tokens of each segment, float32 (tokens[i], D), final-normed, unprojected."""
        read = segments if isinstance(segments, QuestionCache) else self.read(segments, question)
        if read.question != question:
            raise UsageError("compress was given a question other than the one that was read")
        counts = [int(count) for count in tokens]
        if len(counts) != len(read) or any(not 0 <= count <= self.max_memory_tokens for count in counts):
            raise UsageError(
                f"compress needs one count per segment ({len(read)}), each within 0..{self.max_memory_tokens}"
            )
        memory: list[FloatArray] = []
        for start in range(0, len(read), self._batch):
            memory += self._compress_batch(read, start, counts[start : start + self._batch])
        return memory

    def _compress_batch(self, read: QuestionCache, start: int, counts: list[int]) -> list[FloatArray]:
        stop, most = start + len(counts), max(counts)
        if not most:
            return [np.zeros((0, self._memory_tokens.shape[1]), np.float32) for _ in counts]
        batch, question_kv = read.prefix.rows(start, stop), read.kv[:, :, start:stop]
        asked = question_kv.shape[4]
        embeds = self._memory_tokens[:most].expand(len(counts), -1, -1)
        positions = self._text_positions(batch, asked, most)
        mask = suffix_mask(batch.lengths, batch.kv.shape[4], asked, most, self.device)
        hidden = self._run_layers(embeds, positions, LayerCache([batch.kv, question_kv]), mask)
        memory = hidden.float().cpu().numpy()
        return [memory[row, :count] for row, count in enumerate(counts)]
