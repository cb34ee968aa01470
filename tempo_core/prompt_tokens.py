"""Text with frame pairs in it: token ids, which of them visual states fill, and M-RoPE positions. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PromptTokens:
    """Text with frame pairs in it. ``ids``: (length,). ``positions``: (3, length), M-RoPE time, height, width.

    ``is_visual``: (length,) marks the positions that the visual states fill. ``next_position``: where text goes on.
    """

    ids: IntArray
    positions: IntArray
    is_visual: npt.NDArray[np.bool_]
    next_position: int


@dataclass
class PromptTokensBuilder:
    """Puts text and frame pairs one behind the other."""

    ids: list[int] = field(default_factory=list)
    positions: list[IntArray] = field(default_factory=list)
    visual: list[bool] = field(default_factory=list)
    position: int = 0

    def text(self, ids: Sequence[int]) -> None:
        self.ids += ids
        self.positions.append(_text_positions(self.position, len(ids)))
        self.visual += [False] * len(ids)
        self.position += len(ids)

    def frame_pair(self, pad: int, rows: int, columns: int) -> None:
        self.ids += [pad] * (rows * columns)
        self.positions.append(_block_positions(self.position, rows, columns))
        self.visual += [True] * (rows * columns)
        self.position += max(rows, columns)

    def tokens(self) -> PromptTokens:
        return PromptTokens(
            np.array(self.ids), np.concatenate(self.positions, axis=1), np.array(self.visual), self.position
        )


def _text_positions(start: int, count: int) -> IntArray:
    return np.broadcast_to(np.arange(start, start + count), (3, count))


def _block_positions(start: int, rows: int, columns: int) -> IntArray:
    """One frame pair: one temporal position, a grid of heights and widths (M-RoPE)."""
    height, width = np.divmod(np.arange(rows * columns), columns)
    return start + np.stack([np.zeros_like(height), height, width])
