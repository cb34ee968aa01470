"""A run as it is watched: a bar per video with frames, segments, rate and time left, and a line per settled video."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from flows.view import one_line
from storage import Source

MOST_NAME = 28


class RateColumn(TextColumn):
    """Frames per second of the video under way."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """Nothing until it is known."""
        return Text(f"{task.speed:.0f} frames/s" if task.speed else "")


class RunView:
    """Draws on standard error if that is a terminal, else nothing; standard output is left alone."""

    def __init__(self, segment_frames: int, mixed: bool) -> None:
        """``mixed``: readable lines go to standard output meanwhile, so they must be woven in if that is a terminal."""
        self._segment_frames = segment_frames
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f} frames"),
            TextColumn("{task.fields[segments]}"),
            RateColumn(),
            TimeRemainingColumn(compact=True),
            console=(console := Console(stderr=True)),
            disable=not console.is_terminal,
            transient=True,
            redirect_stdout=mixed and sys.stdout.isatty(),
            redirect_stderr=console.is_terminal,
        )
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
        shown = name if len(name) <= MOST_NAME else name[: MOST_NAME - 1] + "~"
        self._current = self._bars.add_task(shown, total=None, segments="")

    def frames(self, done: int, total: int) -> None:
        """Move it on."""
        if self._current is not None:
            step = self._segment_frames
            segments = f"{-(-done // step)}/{-(-total // step)} segments"
            self._bars.update(self._current, completed=done, total=total, segments=segments)

    def end(self) -> None:
        """Take it away."""
        if self._current is not None:
            self._bars.remove_task(self._current)
            self._current = None
