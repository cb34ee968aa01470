"""How long each part of training lasts, and the learning rate over it. Plain numbers, no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nano.segment_batches import BatchShape
from nano.world import LONGEST_ROW

Kind = Literal["read", "answer", "long"]


SHORT = BatchShape(videos=16, segments=16, questions=4)
LONG = BatchShape(videos=6, segments=24, questions=6, long=128)


@dataclass(frozen=True)
class Schedule:
    """Steps of three parts: to read alone; to answer as well, over short prompts; and over long ones by turns.

    ``warm_up`` and ``cool_down``: steps over which the learning rate rises from and falls to nothing.
    """

    read: int = 1500
    short: int = 3500
    long: int = 3200
    warm_up: int = 200
    cool_down: int = 3000
    adam_rate: float = 1.5e-3
    muon_rate: float = 1.5e-3
    short_shape: BatchShape = SHORT
    long_shape: BatchShape = LONG

    @property
    def steps(self) -> int:
        """All of them."""
        return self.read + self.short + self.long

    def kind(self, step: int) -> Kind:
        """What a step does; in one over long prompts the SVLM only computes."""
        if step < self.read:
            return "read"
        return "long" if step >= self.read + self.short and step % 2 else "answer"

    def drop(self, step: int) -> float:
        """The share of prompts that leave segments out: most at first, so that answering begins easy."""
        since = max(0, step - self.read)
        return max(0.4, 1.0 - since / max(1, self.short / 2))

    def rate(self, step: int) -> float:
        """The learning rates' factor."""
        left = (self.steps - step) / max(1, self.cool_down)
        return min(1.0, (step + 1) / self.warm_up, max(0.0, left))


# 8 long prompts have as many tokens as the 64 short ones of a step, 83,000.
STOCK_SCHEDULE = Schedule(
    read=400,
    short=3000,
    long=2600,
    cool_down=2200,
    long_shape=BatchShape(videos=4, segments=24, questions=2, long=LONGEST_ROW),
)
