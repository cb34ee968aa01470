"""Tempo: what is computed. Names load when first used, so that values come without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tempo_core.allocation import allocate
    from tempo_core.checkpoint import Checkpoint, load_checkpoint
    from tempo_core.errors import TempoError
    from tempo_core.prefix_cache import PrefixCache
    from tempo_core.spec import FrameGeometry, IndexSpec
    from tempo_core.values import SegmentPixels, SegmentState

__all__ = [
    "Checkpoint",
    "FrameGeometry",
    "IndexSpec",
    "PrefixCache",
    "SegmentPixels",
    "SegmentState",
    "TempoError",
    "allocate",
    "load_checkpoint",
]

_HOME = {
    "Checkpoint": "checkpoint",
    "FrameGeometry": "spec",
    "IndexSpec": "spec",
    "PrefixCache": "prefix_cache",
    "SegmentPixels": "values",
    "SegmentState": "values",
    "TempoError": "errors",
    "allocate": "allocation",
    "load_checkpoint": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
