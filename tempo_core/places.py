"""Places in a batch: how many answers grow side by side, and how long each may become. Numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LENGTH_STEP = 2048  # tokens by which places get longer


@dataclass(frozen=True)
class Extent:
    """A batch's memory: ``places`` of ``length`` tokens each."""

    places: int = 0
    length: int = 0

    @property
    def tokens(self) -> int:
        return self.places * self.length

    def holds(self, lengths: Sequence[int]) -> bool:
        """Whether answers of these lengths, prompts included, have a place each."""
        return len(lengths) <= self.places and max(lengths, default=0) <= self.length


def power_of_two(count: int) -> int:
    """The least power of two that is no less than ``count``, which is at least 1."""
    return 1 << (count - 1).bit_length()


def least_extent(lengths: Sequence[int]) -> Extent:
    """The smallest one that is made for answers of these lengths: places double, lengths grow by a step."""
    return Extent(power_of_two(len(lengths)), -(-max(lengths) // LENGTH_STEP) * LENGTH_STEP)


def fits(lengths: Sequence[int], most_tokens: int) -> bool:
    """Whether so many answers of these lengths may grow side by side; one alone always may."""
    return len(lengths) == 1 or least_extent(lengths).tokens <= most_tokens


def grown(held: Extent, lengths: Sequence[int], most_tokens: int) -> Extent:
    """``held`` where it is enough; else a larger one, which is smaller in one way only where it must be."""
    if held.holds(lengths):
        return held
    least = least_extent(lengths)
    roomy = Extent(max(held.places, least.places), max(held.length, least.length))
    return roomy if roomy.tokens <= most_tokens else least
