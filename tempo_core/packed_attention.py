"""Attention of new tokens of many segments, packed one behind the other: to what lies before them, and causal.

On a GPU, in half precision, prefixes are attended to where they lie: no copy, no repeated key-value head, no mask. All
new tokens see the whole prefix, so the query heads that share a key-value head are but more rows of it; what the two
parts give is merged by their log-sum-exp. Elsewhere keys and values are joined and padded for SDPA, which is simple and
takes any precision.

Shapes: B segments, T new tokens in all, Q tokens seen before of each segment, Y layers, H key-value heads, G query
heads of each, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.attention.varlen import AuxRequest, varlen_attn
from torch.nn.utils.rnn import pad_sequence
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tempo_core.prefix_cache import PrefixCache

_HALF = (torch.bfloat16, torch.float16)  # what flash attention takes
_CAUSAL, _WHOLE = (-1, 0), (-1, -1)  # windows; a causal one ends where query and keys end


@dataclass(frozen=True)
class PackedAttention:
    """What the decoder layers attend by in one pass. ``counts``: (B,) new tokens of each segment.

    ``slabs``: the prefixes of the B segments in their order; none: nothing lies before. ``seen``: what was read behind
    them already, [Y, 2, segments * Q, H, D] of each slab. ``keep``: [Y, 2, T, H, D], filled with new keys and values.
    """

    counts: Sequence[int]
    groups: int  # G
    device: torch.device
    slabs: Sequence[PrefixCache] = ()
    seen: Sequence[torch.Tensor] = ()
    keep: torch.Tensor | None = None

    # its shapes are a question's own: a compiled layer is one graph before it and one behind
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def attend(
        self, layer: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """query [1, G * H, T, D], key and value [1, H, T, D] of a decoder layer's attention -> [1, T, G * H, D]."""
        rows = query[0].transpose(0, 1)
        new = torch.stack([key[0], value[0]]).transpose(1, 2)  # [2, T, H, D]
        if self.keep is not None:
            self.keep[layer.layer_idx] = new
        in_place = query.is_cuda and query.dtype in _HALF
        out = self._merged(layer, rows, new, scaling) if in_place else self._joined(layer, rows, new, scaling)
        return out[None]

    def _merged(self, layer: Any, rows: torch.Tensor, new: torch.Tensor, scaling: float) -> torch.Tensor:
        tokens, heads, width = rows.shape
        own, own_lse = self._attend_own(layer, rows, new, scaling)
        if not self.slabs:
            return own
        folded = rows.unflatten(1, (-1, self.groups)).transpose(1, 2).flatten(0, 1)  # [T * G, H, D]
        parts = [
            _varlen(folded[first:last], slab.kv[layer.layer_idx], lengths, _WHOLE, scaling)
            for slab, (first, last), lengths in zip(self.slabs, self._folded_rows, self._prefix_lengths, strict=True)
        ]
        prefix = torch.cat([out for out, _ in parts]).unflatten(0, (tokens, self.groups)).transpose(1, 2)
        prefix_lse = torch.cat([lse for _, lse in parts], dim=1).unflatten(1, (tokens, self.groups)).transpose(0, 1)
        share = torch.sigmoid(prefix_lse.reshape(tokens, heads) - own_lse.transpose(0, 1))[..., None]
        merged = torch.lerp(own.float(), prefix.reshape(tokens, heads, width).float(), share)
        return merged.to(rows.dtype)

    def _attend_own(
        self, layer: Any, rows: torch.Tensor, new: torch.Tensor, scaling: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """To what was seen and, causally, to what is new: [T, G * H, D], and the log-sum-exp [G * H, T]."""
        if self.seen:
            seen = (one[layer.layer_idx] for one in self.seen)
            new = torch.cat([*seen, new], dim=1).index_select(1, self._seen_then_new)
        return _varlen(rows, new.repeat_interleave(self.groups, dim=2), self._own_lengths, _CAUSAL, scaling)

    def _joined(self, layer: Any, rows: torch.Tensor, new: torch.Tensor, scaling: float) -> torch.Tensor:
        key, value = (self._padded(layer, new[place], place) for place in (0, 1))
        query = _pad(rows, self.counts).transpose(1, 2)
        out, _ = sdpa_attention_forward(layer, query, key, value, self._mask, scaling=scaling)
        return out.flatten(0, 1)[self._unpadded]

    def _padded(self, layer: Any, new: torch.Tensor, place: int) -> torch.Tensor:
        """All keys (``place`` 0) or values (1) of each segment: [B, H, longest prefix + Q + most new, D]."""
        parts = [_pad(new, self.counts)]
        if self.seen:
            seen = torch.cat([one[layer.layer_idx, place] for one in self.seen])
            parts.insert(0, seen.unflatten(0, (len(self.counts), -1)))
        if self.slabs:
            prefixes = [one for slab in self.slabs for one in slab.kv[layer.layer_idx, place].split(slab.lengths)]
            parts.insert(0, pad_sequence(prefixes, batch_first=True))
        return torch.cat(parts, dim=1).transpose(1, 2)

    @cached_property
    def _seen_tokens(self) -> int:
        return sum(one.shape[2] for one in self.seen) // len(self.counts)

    @cached_property
    def _own_lengths(self) -> _Lengths:
        return _Lengths.of(self.counts, [self._seen_tokens + count for count in self.counts], self.device)

    @cached_property
    def _folded_rows(self) -> list[tuple[int, int]]:
        """Of each slab, where the rows of its segments begin and end."""
        ends = [0, *accumulate(sum(counts) * self.groups for counts in self._slab_counts)]
        return list(pairwise(ends))

    @cached_property
    def _prefix_lengths(self) -> list[_Lengths]:
        return [
            _Lengths.of([count * self.groups for count in counts], slab.lengths, self.device)
            for counts, slab in zip(self._slab_counts, self.slabs, strict=True)
        ]

    @cached_property
    def _slab_counts(self) -> list[Sequence[int]]:
        ends = [0, *accumulate(map(len, self.slabs))]
        return [self.counts[first:last] for first, last in pairwise(ends)]

    @cached_property
    def _seen_then_new(self) -> torch.Tensor:
        """Of each segment its seen tokens, then its new ones, as rows of all that was seen and all that is new."""
        seen, all_seen = self._seen_tokens, self._seen_tokens * len(self.counts)
        ends = pairwise(accumulate(self.counts, initial=all_seen))
        parts = [np.r_[i * seen : (i + 1) * seen, first:last] for i, (first, last) in enumerate(ends)]
        return torch.from_numpy(np.concatenate(parts)).to(self.device)

    @cached_property
    def _mask(self) -> torch.Tensor | None:
        """None where nothing lies before: SDPA is causal then, and what pads on the right is not attended to."""
        if not self.slabs:
            return None
        lengths = [length for slab in self.slabs for length in slab.lengths]
        return torch.from_numpy(joined_mask(lengths, self._seen_tokens, max(self.counts))).to(self.device)

    @cached_property
    def _unpadded(self) -> torch.Tensor:
        """Rows of the new tokens among the padded ones, (T,)."""
        most = max(self.counts)
        rows = [np.arange(i * most, i * most + count) for i, count in enumerate(self.counts)]
        return torch.from_numpy(np.concatenate(rows)).to(self.device)


@dataclass(frozen=True)
class _Lengths:
    """Where each segment's queries and keys begin, (B + 1,) int32, and the most that one has."""

    query: torch.Tensor
    key: torch.Tensor
    most_query: int
    most_key: int

    @classmethod
    def of(cls, query: Sequence[int], key: Sequence[int], device: torch.device) -> _Lengths:
        begins = [torch.tensor([0, *accumulate(one)], dtype=torch.int32, device=device) for one in (query, key)]
        return cls(begins[0], begins[1], max(query), max(key))


def _varlen(
    query: torch.Tensor, kv: torch.Tensor, lengths: _Lengths, window: tuple[int, int], scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """query [rows, heads, D], kv [2, tokens, heads, D] -> [rows, heads, D], and the log-sum-exp [heads, rows]."""
    at = lengths.query, lengths.key, lengths.most_query, lengths.most_key
    lse = AuxRequest(lse=True)
    out, of_rows = varlen_attn(query, kv[0], kv[1], *at, scale=scaling, window_size=window, return_aux=lse)
    return out, of_rows


def _pad(tokens: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """[T, ...] -> [B, most, ...]."""
    return pad_sequence(list(tokens.split(list(counts))), batch_first=True)


def joined_mask(lengths: Sequence[int], seen: int, new: int) -> npt.NDArray[np.bool_]:
    """Boolean [B, 1, new, longest + seen + new]: real prefix tokens, all ``seen`` ones, and causal among the new."""
    prefix = np.arange(max(lengths))[None, :] < np.asarray(lengths)[:, None]
    later = np.arange(seen + new)[None, :] <= seen + np.arange(new)[:, None]
    of_all = len(lengths), new
    parts = [
        np.broadcast_to(prefix[:, None, :], (*of_all, max(lengths))),
        np.broadcast_to(later[None], (*of_all, seen + new)),
    ]
    return np.concatenate(parts, axis=2)[:, None]
