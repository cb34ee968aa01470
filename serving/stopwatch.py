"""Where a question's time goes. On a GPU, work is waited for at the borders, so that each step pays its own."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from serving.answer import Timings


class Stopwatch:
    """Accumulates seconds per step; ``timings`` at the end."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, float] = defaultdict(float)
        self._begin = time.perf_counter()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds what runs inside to ``name``."""
        begin = time.perf_counter()
        try:
            yield
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        finally:
            self._seconds[name] += time.perf_counter() - begin

    def timings(self) -> Timings:
        """Seconds so far."""
        steps = {name: self._seconds[name] for name in ("load", "restore", "route", "compress", "generate")}
        return Timings(**steps, total=time.perf_counter() - self._begin)
