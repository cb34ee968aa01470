"""A run as it is watched: a bar per video with frames, segments, rate and time left, and a line per settled video."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from flows.output import Page, plain_console
from flows.view import one_line, shortened
from storage import Source

NAME_SHARE = 4  # of a line's width, a fourth


class FiguresColumn(ProgressColumn):
    """Frames, segments and frames per second of the video under way; nothing while it is only being read."""

    def render(self, task: Task) -> Text:
        """On a narrow terminal it is the first to be cut."""
        if task.total is None:
            return Text("reading")
        rate = f", {task.speed:.1f} frames/s" if task.speed else ""
        frames, segments = f"{task.completed:.0f}/{task.total:.0f} frames", task.fields["segments"]
        return Text(f"{frames}, {segments}{rate}", overflow="ellipsis", no_wrap=True)


class RunView:
    """Draws on standard error if that is a terminal, else nothing.

    ``page`` is where readable lines go meanwhile: standard output, or above the bars where both are one terminal.
    """

    def __init__(self, segment_frames: int, readable: bool) -> None:
        """``readable``: lines for people are shown; JSON on the same terminal would run into the bars."""
        self._segment_frames = segment_frames
        console = plain_console(stderr=True)
        self._name_width = max(8, console.width // NAME_SHARE)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=10),
            FiguresColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal or (sys.stdout.isatty() and not readable),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=console.is_terminal,
        )
        self.page = Page(console if console.is_terminal and sys.stdout.isatty() else None)
        self._current: TaskID | None = None

    def __enter__(self) -> RunView:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, source: Source) -> None:
        """A bar for this video."""
        name = one_line(source.uri.rsplit("/", 1)[-1])
        self._current = self._bars.add_task(shortened(name, self._name_width), total=None, segments="")

    def frames(self, done: int, total: int) -> None:
        """Move it on."""
        if self._current is not None:
            step = self._segment_frames
            segments = f"{-(-done // step)}/{-(-total // step)} segments"
            last = done == total  # short videos are over between two refreshes
            self._bars.update(self._current, completed=done, total=total, segments=segments, refresh=last)

    def end(self) -> None:
        """Take it away."""
        if self._current is not None:
            self._bars.remove_task(self._current)
            self._current = None
