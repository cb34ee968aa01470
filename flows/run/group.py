"""Staged videos that are committed together: an upsert of twenty rows costs hardly more than one of a single row.

All that are staged by the time of a commit share it. Only short videos, of which many are staged in a second, wait for
others; one that took long is committed at once, and whatever waits with it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from flows.run.attempt import Attempt
from flows.video.worker import Staged
from storage import Source

SHORT_BYTES = 8 << 20  # of a source: more than that takes far longer to decode than to commit
MOST_WAIT_S, MOST_WAITING = 10.0, 32


@dataclass(frozen=True)
class Waiting:
    """A staged video, and the seconds that it took until then."""

    attempt: Attempt
    staged: Staged
    seconds: float


@dataclass
class Group:
    """The videos that wait, in the order in which they were staged."""

    _waiting: list[Waiting] = field(default_factory=list)
    _since: float = 0.0
    _has_long: bool = False

    def add(self, attempt: Attempt, staged: Staged) -> None:
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(Waiting(attempt, staged, attempt.seconds))
        self._has_long |= not is_short(attempt.source)

    @property
    def is_due(self) -> bool:
        """Whether none of them is to wait any longer."""
        if len(self._waiting) >= MOST_WAITING or self._has_long:
            return True
        return bool(self._waiting) and time.monotonic() - self._since >= MOST_WAIT_S

    def take(self) -> list[Waiting]:
        """All of them, for one commit: whatever becomes of it, none is committed again."""
        taken, self._waiting, self._has_long = self._waiting, [], False
        return taken


def is_short(source: Source) -> bool:
    """Whether a video of this source is soon staged."""
    return source.size <= SHORT_BYTES
