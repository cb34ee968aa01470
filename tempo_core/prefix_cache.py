"""KV caches of segments: what the query side keeps hot.

Shapes: Y layers, B segments, T tokens of all segments one behind the other, H key-value heads, Q question tokens,
D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch

from tempo_core.values import FloatArray

# Of one pass behind prefixes: what bounds its activations. Fewer would wait for launches on a GPU.
_PASS_SEGMENTS, _PASS_TOKENS = 128, 1 << 14


@dataclass(frozen=True)
class PrefixCache:
    """The prefixes of B segments, one behind the other: ``kv`` [Y, 2, T, H, D]. Movable, sized, sliceable.

    ``lengths``: (B,) tokens of each prefix. ``next_positions``: (B,) M-RoPE position of what follows.
    """

    kv: torch.Tensor
    lengths: tuple[int, ...]
    next_positions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of the KV caches."""
        return self.kv.numel() * self.kv.element_size()

    @property
    def device(self) -> torch.device:
        """Where the KV caches are."""
        return self.kv.device

    @cached_property
    def bounds(self) -> tuple[int, ...]:
        """Where each prefix begins, and where the last one ends: (B + 1,)."""
        return (0, *accumulate(self.lengths))

    def to(self, device: torch.device | str) -> PrefixCache:
        """The same on another device; on a CUDA host's side in pinned memory, which copies back at full rate."""
        target = torch.device(device)
        if target == self.kv.device:
            return self
        if target.type == "cpu" and self.kv.is_cuda:
            host = torch.empty(self.kv.shape, dtype=self.kv.dtype, pin_memory=True)
            host.copy_(self.kv)
            return PrefixCache(host, self.lengths, self.next_positions)
        return PrefixCache(self.kv.to(target, non_blocking=True), self.lengths, self.next_positions)

    def rows(self, start: int, stop: int) -> PrefixCache:
        """Segments start..stop as a view."""
        stop = min(stop, len(self))
        kv = self.kv[:, :, self.bounds[start] : self.bounds[stop]]
        return PrefixCache(kv, self.lengths[start:stop], self.next_positions[start:stop])

    def select(self, indices: Sequence[int]) -> PrefixCache:
        """Some segments, copied."""
        tokens = [token for i in indices for token in range(self.bounds[i], self.bounds[i + 1])]
        kv = self.kv.index_select(2, torch.tensor(tokens, dtype=torch.long, device=self.kv.device))
        return PrefixCache(kv, tuple(self.lengths[i] for i in indices), tuple(self.next_positions[i] for i in indices))


@dataclass(frozen=True)
class QuestionCache:
    """A question read over B segments: its own ``kv`` [Y, 2, B * Q, H, D] behind ``prefix``, and the scores (B,)."""

    prefix: PrefixCache
    kv: torch.Tensor
    scores: FloatArray
    question: str

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def question_tokens(self) -> int:
        """Q."""
        return self.kv.shape[2] // max(1, len(self))

    def without_prefix(self) -> QuestionCache:
        """Only what the question left (0.05 of the prefix), so that the prefix may leave the device meanwhile."""
        nothing = PrefixCache(self.prefix.kv[:, :, :0].clone(), (), ())
        return replace(self, prefix=nothing)

    def on(self, prefix: PrefixCache) -> QuestionCache:
        """The same reading on the prefixes of the same segments, in the same order."""
        if len(prefix) != len(self):
            raise ValueError(f"{len(prefix)} prefixes for a reading of {len(self)}")
        return replace(self, prefix=prefix)


@dataclass(frozen=True)
class SlabSlice:
    """Segments ``start`` to ``stop`` of the slab at position ``slab``."""

    slab: int
    start: int
    stop: int


def passes_of(new_tokens: Sequence[Sequence[int]]) -> Iterator[list[SlabSlice]]:
    """Segments in order, as many as one pass takes. ``new_tokens``: of each slab, those of each segment."""
    taken: list[SlabSlice] = []
    segments = tokens = 0
    for slab, of_slab in enumerate(new_tokens):
        start = 0
        for row, count in enumerate(of_slab):
            if segments and (segments == _PASS_SEGMENTS or tokens + count > _PASS_TOKENS):
                yield [*taken, *([SlabSlice(slab, start, row)] if row > start else [])]
                taken, segments, tokens, start = [], 0, 0, row
            segments, tokens = segments + 1, tokens + count
        if of_slab:
            taken.append(SlabSlice(slab, start, len(of_slab)))
    if taken:
        yield taken


def slices(taken: Sequence[SlabSlice], slabs: Sequence[PrefixCache]) -> list[PrefixCache]:
    """The prefixes of one pass, as views."""
    return [slabs[one.slab].rows(one.start, one.stop) for one in taken]
