"""Whose turn it is: policy over the questions under way, without tensors, files or threads.

    selecting -> waiting -> working <-> loading -> prepared -> answering -> over
    (caller)     (a turn)   (device)    (disk)     (a place)   (a step each)

- At most ``most_waiting`` questions wait for their first turn; one more is refused.
- Questions are prepared in the order in which they came. While one loads, one behind it that needs no disk may pass;
  so a few are in preparation at once, and the first of them that can go on does.
- Those that are prepared get places in their order too, as soon as their answers fit beside those that grow. While one
  waits for a place, none begins: what it holds meanwhile stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Generic, TypeVar

from tempo_core.errors import QueueFull
from tempo_core.places import fits


class State(Enum):
    """Where a question stands."""

    SELECTING = "selecting"  # its segments are being found
    WAITING = "waiting"  # for its turn
    WORKING = "working"  # the device prepares it, between units of others
    LOADING = "loading"  # it waits for what the disk reads
    PREPARED = "prepared"  # it waits for a place
    ANSWERING = "answering"
    OVER = "over"  # done, failed or cancelled


MOST_IN_PREPARATION = 4


@dataclass(eq=False)
class Request:
    """A question from begin to end, as the policy sees it.

    ``is_hot``: whether it needs no disk. ``length``: tokens that its prompt and answer may take, known when prepared.
    """

    state: State = State.SELECTING
    is_hot: Callable[[], bool] = lambda: False
    length: int = 0
    is_cancelled: bool = False


Asked = TypeVar("Asked", bound=Request)


@dataclass(frozen=True)
class Bounds:
    """``most_waiting`` questions, ``most_places`` answers at once, in memory for about ``most_tokens``."""

    most_waiting: int
    most_places: int
    most_tokens: int


class Scheduler(Generic[Asked]):
    """The questions under way, in the order in which they came. For one thread at a time."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._requests: list[Asked] = []

    @property
    def requests(self) -> Sequence[Asked]:
        """All that are not over, first come first."""
        return tuple(self._requests)

    @property
    def answering(self) -> list[Asked]:
        return self._in(State.ANSWERING)

    def admit(self, request: Asked) -> None:
        """It waits at the end. QueueFull where too many do."""
        waiting = len(self._in(State.SELECTING, State.WAITING))
        if waiting >= self._bounds.most_waiting:
            raise QueueFull(f"{waiting:,} questions wait already, and no more are taken: ask again later")
        self._requests.append(request)

    def next(self) -> Asked | None:
        """Who gets the device for one unit: to begin, to be prepared further, or to be given a place."""
        return next((one for one in self._requests if not one.is_cancelled and self._is_due(one)), None)

    def move(self, request: Asked, state: State) -> None:
        """It is somewhere else now; one that is over stays so."""
        if request.state is State.OVER:
            return
        request.state = state
        if state is State.OVER:
            self._requests.remove(request)

    def cancel(self, request: Asked) -> None:
        """It is nobody's wish any more: one that never began is over at once, others once they are taken out."""
        request.is_cancelled = True
        if request.state in (State.SELECTING, State.WAITING):
            self.move(request, State.OVER)

    def cancelled(self) -> list[Asked]:
        """Those to be taken out, whose places and KV caches are to be freed."""
        return [request for request in self._requests if request.is_cancelled]

    def _in(self, *states: State) -> list[Asked]:
        return [request for request in self._requests if request.state in states]

    def _is_due(self, request: Asked) -> bool:
        match request.state:
            case State.WORKING:
                return True
            case State.PREPARED:
                return request is self._in(State.PREPARED)[0] and self._has_room(request)
            case State.WAITING:
                return self._may_begin(request)
        return False

    def _has_room(self, request: Asked) -> bool:
        lengths = [one.length for one in self.answering]
        return len(lengths) < self._bounds.most_places and fits([*lengths, request.length], self._bounds.most_tokens)

    def _may_begin(self, request: Asked) -> bool:
        if self._in(State.PREPARED) or len(self._in(State.WORKING, State.LOADING)) >= MOST_IN_PREPARATION:
            return False
        before = takewhile(lambda one: one is not request, self._requests)
        return all(one.state is not State.LOADING for one in before) or request.is_hot()
