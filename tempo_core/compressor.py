"""The fine-tuned SVLM of Tempo: a router that also compresses what it routes into memory tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from tempo_core.errors import UsageError
from tempo_core.feature_model import Segments
from tempo_core.packed_attention import PackedAttention
from tempo_core.prefix_cache import QuestionCache, SlabSlice, passes_of, slices
from tempo_core.prompts import PromptEncoder
from tempo_core.router import Router


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

    def compress(
        self, segments: Segments | QuestionCache, question: str, tokens: Sequence[int] | np.ndarray
    ) -> list[torch.Tensor]:
        """The first ``tokens[i]`` memory tokens of each segment, (tokens[i], D), final-normed, on the device."""
        read = segments if isinstance(segments, QuestionCache) else self.read(segments, question)
        if read.question != question:
            raise UsageError("compress was given a question other than the one that was read")
        return self.compress_slabs([read], [tokens])[0]

    @torch.inference_mode()
    def compress_slabs(
        self, reads: Sequence[QuestionCache], tokens: Sequence[Sequence[int] | np.ndarray]
    ) -> list[list[torch.Tensor]]:
        """The same of each slab that a question was read over. They stay on the device, for the answering LLM."""
        counts = [[int(count) for count in of_slab] for of_slab in tokens]
        for read, of_slab in zip(reads, counts, strict=True):
            if len(of_slab) != len(read) or any(not 0 <= count <= self.max_memory_tokens for count in of_slab):
                raise UsageError(
                    f"compress needs one count per segment ({len(read)}), each within 0..{self.max_memory_tokens}"
                )
        memory: list[list[torch.Tensor]] = [[] for _ in reads]
        for taken in passes_of(counts):
            of_pass = [counts[one.slab][one.start : one.stop] for one in taken]
            found = iter(self._compress_pass(taken, reads, [count for of_slab in of_pass for count in of_slab]))
            for one, of_slab in zip(taken, of_pass, strict=True):
                memory[one.slab] += [next(found) for _ in of_slab]
        return memory

    def _compress_pass(
        self, taken: Sequence[SlabSlice], reads: Sequence[QuestionCache], counts: Sequence[int]
    ) -> Sequence[torch.Tensor]:
        """Memory tokens of one pass's segments."""
        if not sum(counts):
            return [self._memory_tokens[:0] for _ in counts]
        slabs, asked = slices(taken, [read.prefix for read in reads]), reads[taken[0].slab].question_tokens
        seen = [reads[one.slab].kv[:, :, one.start * asked : one.stop * asked] for one in taken]
        behind = PackedAttention(counts, self._groups, self.device, slabs, seen)
        embeds = torch.cat([self._memory_tokens[:count] for count in counts])
        hidden = self._run_layers(embeds, self._text_positions(slabs, asked, counts), behind)
        memory: Sequence[torch.Tensor] = hidden.split(list(counts))
        return memory
