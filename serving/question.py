"""A question from begin to end: what its caller waits for, and what the worker holds for it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue

from serving.reading import Prepared, Reading
from serving.scheduler import Request
from serving.stopwatch import Stopwatch
from serving.units import Units
from tempo_core.greedy import Place, Prompt

Told = Reading | int | Exception | None


@dataclass(eq=False, kw_only=True)
class Question(Request):
    """``units`` prepare it, ``prompt`` is what they left for the model's own reader, ``place`` where its answer grows.

    ``told`` leads to its caller: the reading, then token ids, at last None; or an error instead of any of them.
    """

    max_new_tokens: int
    watch: Stopwatch
    units: Units[Prepared] | None = None
    prompt: Prompt | None = None
    place: Place | None = None
    seated_s: float = 0.0
    told_tokens: int = 0
    told: SimpleQueue[Told] = field(default_factory=SimpleQueue)

    def reading(self) -> Reading:
        """Waits until it is prepared; an error of its preparation is raised here."""
        reading = self._next()
        assert isinstance(reading, Reading)
        return reading

    def token_ids(self) -> Iterator[int]:
        """Waits for each; an error while it is answered is raised here."""
        while (token_id := self._next()) is not None:
            assert isinstance(token_id, int)
            yield token_id

    def tell_tokens(self) -> None:
        """What its place has that was not told yet."""
        assert self.place is not None
        for token_id in self.place.tokens[self.told_tokens :]:
            self.told.put(token_id)
        self.told_tokens = len(self.place.tokens)

    def _next(self) -> Reading | int | None:
        told = self.told.get()
        if isinstance(told, Exception):
            raise told
        return told
