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
        """Adds what runs inside to ``name``; loading needs no device, and waits for none."""
        begin = time.perf_counter()
        try:
            yield
            if self._device.type == "cuda" and name != "load":
                torch.cuda.synchronize(self._device)
        finally:
            self.add(name, time.perf_counter() - begin)

    def add(self, name: str, seconds: float) -> None:
        """What a step took that was not one block of code."""
        self._seconds[name] += seconds

    def timings(self) -> Timings:
        """Seconds so far; what no step took was spent waiting."""
        steps = {name: self._seconds[name] for name in ("load", "restore", "route", "compress", "generate")}
        total = time.perf_counter() - self._begin
        return Timings(**steps, wait=max(0.0, total - sum(steps.values())), total=total)
