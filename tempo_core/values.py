"""The values that pass between the packages. numpy only: importing them loads no torch.

Shapes: P patches, T frame pairs, S visual tokens of a segment, L = 1 + deepstack levels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tempo_core.spec import StateDtype

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

_ELEMENT_BYTES: dict[StateDtype, int] = {"float32": 4, "bfloat16": 2, "int8": 1}
_SCALE_BYTES = 4  # int8 rows end with one little-endian float32 scale


@dataclass(frozen=True)
class SegmentFrames:
    """The sampled frames of one segment, at their final size.

    ``pixels``: uint8 [count, height, width, 3] RGB. ``times_s``: the presentation time of each frame that is
    shown, seconds from the first frame (at or before the sample's own time).
    """

    index: int
    pixels: ByteArray
    times_s: tuple[float, ...]


@dataclass(frozen=True)
class SegmentPixels:
    """One segment as the vision tower takes it.

    ``patches``: [t*h*w, 1536], float32 in -1..1, or uint8 that is normalized ((x - 127.5) / 127.5) on the device.
    ``grid_thw``: (frame pairs, patch rows, patch columns). ``pair_times_s``: one time per frame pair.
    """

    patches: FloatArray | ByteArray
    grid_thw: tuple[int, int, int]
    pair_times_s: tuple[float, ...]


@dataclass(frozen=True)
class SegmentState:
    """The SVLM's visual hidden states of one segment, raw as they are kept on disk.

    ``rows``: uint8 [L, S, row_bytes]; level 0 is the tower's merged output, then its deepstack features. A row is
    one token: D float32, D bfloat16, or D int8 followed by its float32 scale (absolute maximum / 127).
    """

    rows: ByteArray
    dtype: StateDtype
    grid_thw: tuple[int, int, int]
    pair_times_s: tuple[float, ...]

    @property
    def hidden_size(self) -> int:
        """D."""
        row_bytes = int(self.rows.shape[-1])
        return row_bytes - _SCALE_BYTES if self.dtype == "int8" else row_bytes // _ELEMENT_BYTES[self.dtype]

    @property
    def visual(self) -> FloatArray:
        """The states as float32 [L, S, D] (exact for float32 and bfloat16)."""
        rows = np.ascontiguousarray(self.rows)
        if self.dtype == "float32":
            return rows.view(np.float32)
        if self.dtype == "bfloat16":
            return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        scale = np.ascontiguousarray(rows[..., -_SCALE_BYTES:]).view(np.float32)
        return np.ascontiguousarray(rows[..., :-_SCALE_BYTES]).view(np.int8).astype(np.float32) * scale

    def pairs(self, indices: Sequence[int]) -> SegmentState:
        """The states of some of its frame pairs: attention in the vision tower stays inside a pair."""
        levels, tokens, width = self.rows.shape
        of_pairs = self.rows.reshape(levels, self.grid_thw[0], tokens // self.grid_thw[0], width)
        chosen = np.ascontiguousarray(of_pairs[:, list(indices)].reshape(levels, -1, width))
        grid = (len(indices), *self.grid_thw[1:])
        return SegmentState(chosen, self.dtype, grid, tuple(self.pair_times_s[i] for i in indices))

    @property
    def nbytes(self) -> int:
        """Bytes of the raw rows."""
        return int(self.rows.nbytes)


def row_bytes(hidden_size: int, dtype: StateDtype) -> int:
    """Bytes of one token's row in a states part."""
    return hidden_size * _ELEMENT_BYTES[dtype] + (_SCALE_BYTES if dtype == "int8" else 0)
