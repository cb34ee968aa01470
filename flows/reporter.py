"""Where a run reports to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.result import IndexResult
    from flows.snapshot import Snapshot


class Reporter:
    """Told of a run as it goes on. This one shows nothing; the terminal, JSON lines and Prefect have one each."""

    def notice(self, text: str) -> None:
        """Something that the user must know, as one line: a licence, whom the run waits for."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """The run as it is now, about once a second while it works."""

    def settled(self, result: IndexResult) -> None:
        """What became of one video."""
