"""Tempo: what is computed. Names load when first used, so that values come without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tempo_core.allocation import allocate as allocate
    from tempo_core.checkpoint import load_checkpoint as load_checkpoint
    from tempo_core.checkpoint_parts import Checkpoint as Checkpoint
    from tempo_core.errors import TempoError as TempoError
    from tempo_core.features_checkpoint import with_features as with_features
    from tempo_core.prefix_cache import PrefixCache as PrefixCache
    from tempo_core.spec import FrameGeometry as FrameGeometry
    from tempo_core.spec import IndexSpec as IndexSpec
    from tempo_core.values import SegmentPixels as SegmentPixels
    from tempo_core.values import SegmentState as SegmentState

_MODULE_OF = {
    "Checkpoint": "checkpoint_parts",
    "FrameGeometry": "spec",
    "IndexSpec": "spec",
    "PrefixCache": "prefix_cache",
    "SegmentPixels": "values",
    "SegmentState": "values",
    "TempoError": "errors",
    "allocate": "allocation",
    "load_checkpoint": "checkpoint",
    "with_features": "features_checkpoint",
}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
