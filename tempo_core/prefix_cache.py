"""KV caches of segments: what the query side keeps hot, and what the decoder layers see of them.

Shapes: Y layers, B segments, H key-value heads, N longest prefix, Q question tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tempo_core.values import FloatArray


@dataclass(frozen=True)
class PrefixCache:
    """The prefixes of B segments: ``kv`` [Y, 2, B, H, N, D], right-padded. Movable, sized, sliceable.

    ``lengths``: (B,) real tokens of each prefix. ``next_positions``: (B,) M-RoPE position of what follows.
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
        return PrefixCache(self.kv[:, :, start:stop], self.lengths[start:stop], self.next_positions[start:stop])

    def select(self, indices: Sequence[int]) -> PrefixCache:
        """Some segments, copied."""
        kv = self.kv.index_select(2, torch.as_tensor(indices, dtype=torch.long, device=self.kv.device))
        return PrefixCache(kv, tuple(self.lengths[i] for i in indices), tuple(self.next_positions[i] for i in indices))


@dataclass(frozen=True)
class QuestionCache:
    """A question read over B segments: its own ``kv`` [Y, 2, B, H, Q, D] behind ``prefix``, and the scores (B,)."""

    prefix: PrefixCache
    kv: torch.Tensor
    scores: FloatArray
    question: str

    def __len__(self) -> int:
        return len(self.scores)

    def without_prefix(self) -> QuestionCache:
        """Only what the question left (0.05 of the prefix), so that the prefix may leave the device meanwhile."""
        nothing = PrefixCache(self.prefix.kv[:, :, :0].clone(), (), ())
        return replace(self, prefix=nothing)

    def on(self, prefix: PrefixCache) -> QuestionCache:
        """The same reading on the prefixes of the same segments, in the same order."""
        if len(prefix) != len(self):
            raise ValueError(f"{len(prefix)} prefixes for a reading of {len(self)}")
        return replace(self, prefix=prefix)


class LayerCache:
    """What a decoder layer calls: joins the past of its layer with the new keys and values.

    ``past`` tensors [Y, 2, B, H, *, D] are read, never written; the join lives only while its layer runs, so the
    prefixes are not held twice. With ``keep``, the new keys and values are written there.
    """

    def __init__(self, past: Sequence[torch.Tensor] = (), keep: torch.Tensor | None = None) -> None:
        self._past = past
        self._keep = keep

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """New [B, H, q, D] keys and values in, all of that layer out."""
        if self._keep is not None:
            self._keep[layer_idx, 0, :, :, : keys.shape[2]] = keys
            self._keep[layer_idx, 1, :, :, : values.shape[2]] = values
        if not self._past:
            return keys, values
        return (
            torch.cat([*(past[layer_idx, 0] for past in self._past), keys], dim=2),
            torch.cat([*(past[layer_idx, 1] for past in self._past), values], dim=2),
        )


def suffix_mask(lengths: Sequence[int], longest: int, seen: int, new: int, device: torch.device) -> torch.Tensor:
    """Boolean [B, 1, new, longest + seen + new]: real prefix tokens, all ``seen`` ones, and causal among the new."""
    prefix = np.arange(longest)[None, :] < np.asarray(lengths)[:, None]
    later = np.arange(seen + new)[None, :] <= seen + np.arange(new)[:, None]
    mask = np.concatenate(
        [
            np.broadcast_to(prefix[:, None, :], (len(lengths), new, longest)),
            np.broadcast_to(later[None], (len(lengths), new, seen + new)),
        ],
        axis=2,
    )
    return torch.from_numpy(mask)[:, None].to(device)
