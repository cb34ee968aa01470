"""The KV caches of a batch of answers: a row each, and where each one's next token goes.

Shapes: R rows that are computed, H key-value heads, q new tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tempo_core.places import Extent


class AnswerMemory:
    """Per layer [2, places, H, length, D], and for each row four numbers on the device: ``slot`` (places,) is where its
    next token goes, ``position`` that token's place in the sequence (another one where frame pairs take fewer places
    than tokens), ``token`` the newest, and ``pace`` 1 where an answer grows, else 0.

    A row that nobody has may be computed beside others, so that one captured graph serves several numbers of answers.
    It stands still, and writes into itself only.
    """

    def __init__(self, config: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self._dtype = device, dtype
        self._heads, self._width = int(config.num_key_value_heads), int(config.head_dim)
        self.axes: tuple[int, ...] = ()  # of a position, before its row: (3,) in M-RoPE
        self.extent = Extent()
        self._kv = [self._layer(self.extent) for _ in range(int(config.num_hidden_layers))]
        self._set_state(torch.zeros(4, 0, dtype=torch.long, device=device))

    def resize(self, extent: Extent, kept: int) -> None:
        """Another extent, in which the first ``kept`` rows keep what they hold.

        One layer after the other, so that the memory is not needed twice. Where it runs short in between, those rows go
        on in what all layers have.
        """
        before = self.extent
        self.extent = Extent(min(before.places, extent.places), min(before.length, extent.length)) if kept else Extent()
        state = torch.zeros(4, extent.places, dtype=torch.long, device=self.device)
        state[:, :kept] = self._state[:, :kept]
        self._set_state(state)
        if not kept:
            self._kv = [self._layer(self.extent) for _ in self._kv]  # nothing to copy: it is freed first
        held = self.extent.length
        for index, old in enumerate(self._kv):
            new = self._layer(extent)
            new[:, :kept, :, :held] = old[:, :kept, :, :held]
            self._kv[index] = new
        self._places = torch.arange(extent.length, device=self.device)
        self._rows = torch.arange(extent.places, device=self.device)
        self.extent = extent

    def filling(self, row: int) -> Filling:
        """What the decoder layers are given while a prompt is read into ``row``."""
        return Filling([layer[:, row] for layer in self._kv])

    def seat(self, row: int, token: int, slot: int, position: int) -> None:
        """An answer begins in ``row`` with its first token, which goes to ``slot``."""
        self._state[:, row] = torch.tensor([slot, position, token, 1])

    def empty(self, row: int) -> None:
        """Nobody has ``row`` any more."""
        self._state[:, row] = 0

    def move(self, source: int, target: int, filled: int) -> None:
        """An answer of ``filled`` tokens gets another row."""
        for layer in self._kv:
            layer[:, target, :, :filled] = layer[:, source, :, :filled]
        self._state[:, target] = self._state[:, source]

    def tokens(self, rows: int) -> list[int]:
        """The newest of each of the first rows."""
        newest: list[int] = self.token[:rows].tolist()
        return newest

    def mask(self, rows: int) -> torch.Tensor:
        """Boolean [R, 1, 1, length]: of each row its own tokens, with the one that is to be stored."""
        own: torch.Tensor = self._places[None, : self.extent.length] <= self.slot[:rows, None]
        return own[:, None, None]

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # else each layer would be compiled for its index
    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores new [R, H, 1, D] keys and values in their rows' slots; out come those rows [R, H, length, D]."""
        rows = len(keys)
        held = self._kv[layer_idx][:, :rows, :, : self.extent.length]
        for kept, new in zip(held, (keys, values), strict=True):
            kept[self._rows[:rows], :, self.slot[:rows]] = new[:, :, 0]
        return held[0], held[1]

    def advance(self, tokens: torch.Tensor) -> None:
        """The next tokens (R,) of the first rows: each goes behind the one before."""
        rows = len(tokens)
        self.token[:rows] = tokens
        self.slot[:rows] += self.pace[:rows]
        self.position[:rows] += self.pace[:rows]

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Whatever steps are made inside, every answer stands where it stood."""
        before = self._state.clone()
        yield
        self._state.copy_(before)

    def _set_state(self, state: torch.Tensor) -> None:
        self._state = state
        self.slot, self.position, self.token, self.pace = state

    def _layer(self, extent: Extent) -> torch.Tensor:
        shape = (2, extent.places, self._heads, extent.length, self._width)
        return torch.zeros(shape, device=self.device, dtype=self._dtype)


class Filling:
    """A KV cache that takes a prompt into one row; ``layers`` [2, H, length, D] each."""

    def __init__(self, layers: list[torch.Tensor]) -> None:
        self._layers = layers

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same [1, H, q, D] keys and values: a prompt attends to itself alone.

        Values of whoever had the row before are wiped out: masked ones count nothing, unless one was not finite.
        """
        length = keys.shape[2]
        kept_keys, kept_values = self._layers[layer_idx]
        kept_keys[:, :length], kept_values[:, :length] = keys[0], values[0]
        kept_values[:, length:] = 0
        return keys, values
