"""Between tensors on a device and the raw rows that are stored (``values.SegmentState``)."""

from __future__ import annotations

import numpy as np
import torch

from tempo_core.spec import StateDtype
from tempo_core.values import SegmentState


def pack_rows(visual: torch.Tensor, dtype: StateDtype) -> torch.Tensor:
    """[..., D] floats to uint8 rows [..., row bytes] on the same device. int8: scale = absolute maximum / 127."""
    if dtype == "int8":
        wide = visual.float()
        scale = (wide.abs().amax(dim=-1, keepdim=True) / 127.0).clamp_min(torch.finfo(torch.float32).tiny)
        codes = (wide / scale).round().clamp(-127, 127).to(torch.int8)
        return torch.cat([codes.view(torch.uint8), scale.contiguous().view(torch.uint8)], dim=-1)
    target = torch.float32 if dtype == "float32" else torch.bfloat16
    return visual.to(target).contiguous().view(torch.uint8)


def unpack_rows(state: SegmentState, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """The states [L, S, D] on ``device`` as ``dtype``; raw bytes travel, conversion happens there."""
    writable = np.require(state.rows, requirements="W")  # a read-only view is copied: torch knows no such thing
    rows = torch.from_numpy(writable).to(device, non_blocking=True)
    if state.dtype == "int8":
        scale = rows[..., -4:].contiguous().view(torch.float32)
        return (rows[..., :-4].contiguous().view(torch.int8).float() * scale).to(dtype)
    return rows.view(torch.float32 if state.dtype == "float32" else torch.bfloat16).to(dtype)
