"""How the functions that take most of a training step's time run: as they are written, or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Optimize = Callable[[Any], Any]  # a function in, one that computes the same out


def as_written(function: Any) -> Any:
    return function


def compiled(function: Any) -> Any:
    """Compiled once for each kind of call and each shape."""
    import torch._dynamo

    torch._dynamo.config.cache_size_limit = 64
    return torch.compile(function, dynamic=False)
