"""How a run is reported at a terminal: readable lines with a live view, or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flows.reporter import Reporter
from flows.result import IndexResult
from flows.snapshot import Snapshot
from flows.terminal.output import Page, notice, print_json
from flows.terminal.progress import LiveView
from flows.text import one_line

STYLES = {"failed": "red", "failed-before": "yellow", "gone": "yellow", "pending": "yellow"}


@contextmanager
def terminal_reporter(as_json: bool) -> Iterator[Reporter]:
    """The reporter of a command; its live view is gone when the context is left."""
    with LiveView(readable=not as_json) as view:
        yield JsonReporter(view) if as_json else ReadableReporter(view)


class TerminalReporter(Reporter):
    """Notices on standard error and the live view, with no line for a video."""

    def __init__(self, view: LiveView) -> None:
        self._view = view

    def notice(self, text: str) -> None:
        notice(text)

    def snapshot(self, snapshot: Snapshot) -> None:
        self._view.update(snapshot)


class JsonReporter(TerminalReporter):
    """A JSON line for each video on standard output."""

    def settled(self, result: IndexResult) -> None:
        print_json(result.to_json())


class ReadableReporter(TerminalReporter):
    """A readable line for each video that is not as it was, above the live view."""

    def settled(self, result: IndexResult) -> None:
        show_result(result, self._view.page)


def show_result(result: IndexResult, page: Page) -> None:
    """A line for a video and one for each of its warnings; what is unchanged is only counted."""
    if result.status == "unchanged":
        return
    page.line(f"{result.status:<13} {one_line(result.uri)}  {result.details}", style=STYLES.get(result.status))
    for warning in result.warnings if result.status == "indexed" else ():
        page.line(f"{'':<13} note: {one_line(warning)}", style="yellow")
