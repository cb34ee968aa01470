"""A text model that reads the states of segments: their KV caches, and features, one vector each, to search by.

    prefill   states -> prefix KV caches         question-independent, exact because attention is causal
    features  prefix -> one vector per segment   behind the suffix of a ``FeaturePrompt`` (stored, searched)

It needs no vision tower: whoever's states it reads must have the same one. Shapes: B segments, S visual tokens,
L = 1 + deepstack levels, D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tempo_core.errors import NotFinite
from tempo_core.modules import Deepstack, run_layers
from tempo_core.prefix_cache import LayerCache, PrefixCache, suffix_mask
from tempo_core.prompt_tokens import PromptTokens
from tempo_core.prompts import PromptEncoder
from tempo_core.states import unpack_rows
from tempo_core.values import FloatArray, SegmentState

Segments = PrefixCache | Sequence[SegmentState]


class FeatureModel:
    """Everything that comes out is on the CPU, without gradients.

    ``merge``: patches to a visual token, a side. ``batch_segments`` bounds the segments of one forward pass: its
    activations, not results.
    """

    def __init__(self, text: nn.Module, prompts: PromptEncoder, merge: int, batch_segments: int = 32) -> None:
        self._text: Any = text
        self._prompts = prompts
        self._merge = merge
        self._batch = batch_segments
        config: Any = text.config
        self._layers, self._kv_heads = int(config.num_hidden_layers), int(config.num_key_value_heads)
        self._head_dim = int(config.head_dim)
        embeddings: torch.Tensor = text.embed_tokens.weight  # type: ignore[assignment, union-attr]
        self.dtype, self._hidden_size = embeddings.dtype, embeddings.shape[1]
        self.device = embeddings.device

    @torch.inference_mode()
    def prefill(self, states: Sequence[SegmentState]) -> PrefixCache:
        """The KV caches of the prefixes, one slab for all segments (28 x 2 x 8 x 128 bf16 numbers a token at 2 B)."""
        tokens = [self._prompts.prefix(state.grid_thw, state.pair_times_s, self._merge) for state in states]
        lengths = tuple(len(token.ids) for token in tokens)
        kv = self._new_kv(len(states), max(lengths, default=0))
        for start in range(0, len(states), self._batch):
            stop = start + self._batch
            self._prefill_batch(states[start:stop], tokens[start:stop], kv[:, :, start:stop])
        return PrefixCache(kv, lengths, tuple(token.next_position for token in tokens))

    def _prefill_batch(self, states: Sequence[SegmentState], tokens: Sequence[PromptTokens], kv: torch.Tensor) -> None:
        """Right padding needs no mask: attention is causal, and what pads is never attended to later."""
        longest = max(len(token.ids) for token in tokens)
        ids = torch.zeros(len(tokens), longest, dtype=torch.long)
        positions = torch.zeros(3, len(tokens), longest, dtype=torch.long)
        is_visual = torch.zeros(len(tokens), longest, dtype=torch.bool)
        for row, token in enumerate(tokens):
            ids[row, : len(token.ids)] = torch.from_numpy(token.ids)
            positions[:, row, : len(token.ids)] = torch.from_numpy(np.ascontiguousarray(token.positions))
            is_visual[row, : len(token.ids)] = torch.from_numpy(token.is_visual)
        visual = torch.cat([unpack_rows(state, self.device, self.dtype) for state in states], dim=1)  # [L, B*S, D]
        where = is_visual.flatten().nonzero().squeeze(1).to(self.device)
        hidden = self._text.embed_tokens(ids.to(self.device))
        hidden.view(-1, hidden.shape[-1])[where] = visual[0]
        self._run_layers(hidden, positions.to(self.device), LayerCache(keep=kv), None, (where, visual[1:]))

    @torch.inference_mode()
    def features(self, segments: Segments) -> FloatArray:
        """Relevance-ready features, float32 (B, D), each of length 1: the segment summed up in one word."""
        prefix = self._prefix(segments)
        suffix = self._prompts.summary_suffix()
        parts = [self._last_hidden(batch, suffix, None) for batch in self._batches(prefix)]
        return _unit_length(torch.cat(parts) if parts else torch.zeros(0, self._hidden_size))

    @torch.inference_mode()
    def question_feature(self, question: str) -> FloatArray:
        """The question in the features' space, float32 (D,), of length 1."""
        ids = torch.tensor([self._prompts.question_summary(question)], device=self.device)
        positions = torch.arange(ids.shape[1], device=self.device).expand(3, 1, -1)
        hidden = self._run_layers(self._text.embed_tokens(ids), positions, LayerCache(), None)
        feature: FloatArray = _unit_length(hidden[:, -1])[0]
        return feature

    def _last_hidden(self, batch: PrefixCache, suffix: list[int], keep: torch.Tensor | None) -> torch.Tensor:
        """[B, D]: the final-normed state of the last suffix token behind each prefix."""
        ids = torch.tensor(suffix, device=self.device).expand(len(batch), -1)
        positions = self._text_positions(batch, 0, len(suffix))
        mask = suffix_mask(batch.lengths, batch.kv.shape[4], 0, len(suffix), self.device)
        hidden = self._run_layers(self._text.embed_tokens(ids), positions, LayerCache([batch.kv], keep), mask)
        return hidden[:, -1]

    def _run_layers(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        cache: LayerCache,
        mask: torch.Tensor | None,
        deepstack: Deepstack | None = None,
    ) -> torch.Tensor:
        """[B, q, D], final-normed: embeddings behind all decoder layers."""
        normed: torch.Tensor = self._text.norm(run_layers(self._text, hidden, positions, mask, cache, deepstack))
        return normed

    def _prefix(self, segments: Segments) -> PrefixCache:
        if isinstance(segments, PrefixCache):
            return segments.to(self.device)
        return self.prefill(segments)

    def _batches(self, prefix: PrefixCache) -> list[PrefixCache]:
        return [prefix.rows(start, start + self._batch) for start in range(0, len(prefix), self._batch)]

    def _text_positions(self, batch: PrefixCache, seen: int, new: int) -> torch.Tensor:
        """(3, B, new): text goes on behind each prefix, one position a token."""
        first = torch.tensor(batch.next_positions)[:, None] + seen
        return (first + torch.arange(new)[None, :]).expand(3, -1, -1).to(self.device)

    def _new_kv(self, segments: int, length: int) -> torch.Tensor:
        shape = (self._layers, 2, segments, self._kv_heads, length, self._head_dim)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)


def _unit_length(hidden: torch.Tensor) -> FloatArray:
    unit: FloatArray = finite(nn.functional.normalize(hidden.float(), dim=-1)).cpu().numpy()
    return unit


def finite(values: torch.Tensor) -> torch.Tensor:
    """The same values; NotFinite where one is an infinity or NaN."""
    if not bool(values.isfinite().all()):
        raise NotFinite(
            "the model computed numbers that are not finite from this video, though its weights passed their test when "
            "they were loaded: index it again with --retry-failed, in case a GPU failed; `tempo verify` finds damage "
            "in what is stored"
        )
    return values
