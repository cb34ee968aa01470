"""A text model that reads the states of segments: their KV caches, and features, one vector each, to search by.

    prefill   states -> prefix KV caches         question-independent, exact because attention is causal
    features  prefix -> one vector per segment   behind the suffix of a ``FeaturePrompt`` (stored, searched)

It needs no vision tower: whoever's states it reads must have the same one. Shapes: B segments, T tokens of all of them,
S visual tokens, L = 1 + deepstack levels, D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tempo_core.errors import NotFinite
from tempo_core.modules import Deepstack, compile_layers, run_layers
from tempo_core.packed_attention import PackedAttention
from tempo_core.prefix_cache import PrefixCache, passes_of, slices
from tempo_core.prompt_tokens import PromptTokens
from tempo_core.prompts import PromptEncoder
from tempo_core.states import DeviceState, unpack_rows
from tempo_core.values import FloatArray, SegmentState

Segments = PrefixCache | Sequence[SegmentState] | Sequence[DeviceState]


class FeatureModel:
    """What comes out is on the CPU, but for KV caches, without gradients.

    ``merge``: patches to a visual token, a side. ``batch_segments`` bounds the segments that are prefilled at once:
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
        self._groups = int(config.num_attention_heads) // self._kv_heads
        embeddings: torch.Tensor = text.embed_tokens.weight  # type: ignore[assignment, union-attr]
        self.dtype, self._hidden_size = embeddings.dtype, embeddings.shape[1]
        self.device = embeddings.device

    def compile(self) -> None:
        """See ``Checkpoint.compile``."""
        compile_layers(self._text.layers)

    @torch.inference_mode()
    def prefill(self, states: Sequence[SegmentState | DeviceState]) -> PrefixCache:
        """The KV caches of the prefixes, one slab for all segments (28 x 2 x 8 x 128 bf16 numbers a token at 2 B)."""
        tokens = [self._prompts.prefix(state.grid_thw, state.pair_times_s, self._merge) for state in states]
        lengths = tuple(len(token.ids) for token in tokens)
        prefix = PrefixCache(self._new_kv(sum(lengths)), lengths, tuple(token.next_position for token in tokens))
        for start in range(0, len(states), self._batch):
            stop = start + self._batch
            self._prefill_batch(states[start:stop], tokens[start:stop], prefix.rows(start, stop))
        return prefix

    def _prefill_batch(
        self, states: Sequence[SegmentState | DeviceState], tokens: Sequence[PromptTokens], prefix: PrefixCache
    ) -> None:
        ids = torch.from_numpy(np.concatenate([token.ids for token in tokens]))
        positions = torch.from_numpy(np.concatenate([token.positions for token in tokens], axis=1))
        is_visual = torch.from_numpy(np.concatenate([token.is_visual for token in tokens]))
        visual = torch.cat([unpack_rows(state, self.device, self.dtype) for state in states], dim=1)  # [L, B*S, D]
        where = is_visual.nonzero().squeeze(1).to(self.device)
        hidden = self._text.embed_tokens(ids.to(self.device))
        hidden[where] = visual[0]
        causal = PackedAttention(prefix.lengths, self._groups, self.device, keep=prefix.kv)
        self._run_layers(hidden, positions.to(self.device), causal, (where, visual[1:]))

    @torch.inference_mode()
    def features(self, segments: Segments) -> FloatArray:
        """Relevance-ready features, float32 (B, D), each of length 1: the segment summed up in one word."""
        prefix = self._prefix(segments)
        suffix = self._prompts.summary_suffix()
        passes = passes_of([[len(suffix)] * len(prefix)])
        parts = [self._last_hidden(slices(taken, [prefix]), suffix, None) for taken in passes]
        return _unit_length(torch.cat(parts) if parts else torch.zeros(0, self._hidden_size))

    @torch.inference_mode()
    def question_feature(self, question: str) -> FloatArray:
        """The question in the features' space, float32 (D,), of length 1."""
        ids = torch.tensor(self._prompts.question_summary(question), device=self.device)
        positions = torch.arange(len(ids), device=self.device).expand(3, -1)
        alone = PackedAttention([len(ids)], self._groups, self.device)
        hidden = self._run_layers(self._text.embed_tokens(ids), positions, alone)
        feature: FloatArray = _unit_length(hidden[-1:])[0]
        return feature

    def _last_hidden(self, slabs: Sequence[PrefixCache], suffix: list[int], keep: torch.Tensor | None) -> torch.Tensor:
        """[B, D]: the final-normed state of the last suffix token behind each prefix."""
        counts = [len(suffix)] * sum(map(len, slabs))
        ids = torch.tensor(suffix, device=self.device).repeat(len(counts))
        behind = PackedAttention(counts, self._groups, self.device, slabs, keep=keep)
        hidden = self._run_layers(self._text.embed_tokens(ids), self._text_positions(slabs, 0, counts), behind)
        return hidden[len(suffix) - 1 :: len(suffix)]

    def _run_layers(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        attention: PackedAttention,
        deepstack: Deepstack | None = None,
    ) -> torch.Tensor:
        """[T, D], final-normed: embeddings behind all decoder layers. ``positions``: [3, T]."""
        out = run_layers(self._text, hidden[None], positions[:, None], attention, deepstack=deepstack)
        normed: torch.Tensor = self._text.norm(out)[0]
        return normed

    def _prefix(self, segments: Segments) -> PrefixCache:
        if isinstance(segments, PrefixCache):
            return segments.to(self.device)
        return self.prefill(segments)

    def _text_positions(self, slabs: Sequence[PrefixCache], seen: int, counts: Sequence[int]) -> torch.Tensor:
        """(3, T): text goes on behind each prefix, one position a token."""
        first = [position + seen for slab in slabs for position in slab.next_positions]
        positions = [np.arange(start, start + count) for start, count in zip(first, counts, strict=True)]
        return torch.from_numpy(np.concatenate(positions)).expand(3, -1).to(self.device)

    def _new_kv(self, tokens: int) -> torch.Tensor:
        shape = (self._layers, 2, tokens, self._kv_heads, self._head_dim)
        return torch.empty(shape, dtype=self.dtype, device=self.device)


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
