"""The live view of a run: a line of figures, a bar per video under way, and room above them for settled videos."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.cells import cell_len, set_cell_size
from rich.live import Live
from rich.text import Text

from flows.snapshot import Snapshot, VideoProgress
from flows.terminal.output import Page, plain_console
from flows.text import Glyphs, bar, counted, glyphs_for, shortened, span

NAME_SHARE = 4  # of a line's width, a fourth
BAR_WIDTH = 10
MOST_BARS = 8


class LiveView:
    """Draws on standard error if that is a terminal, else nothing.

    ``page`` is where readable lines go meanwhile: standard output, or above the bars where both are one terminal.
    """

    def __init__(self, readable: bool) -> None:
        """``readable``: lines for people are shown; JSON on the same terminal would run into the bars."""
        console = plain_console(stderr=True)
        self._drawn = console.is_terminal and (readable or not sys.stdout.isatty())
        self._live = Live(
            console=console,
            auto_refresh=False,  # each snapshot draws: no thread of its own
            transient=True,
            redirect_stdout=False,
            redirect_stderr=self._drawn,
        )
        self.page = Page(console if console.is_terminal and sys.stdout.isatty() else None)

    def __enter__(self) -> LiveView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        """Draw the run as it is now; from the first time on, until the context is left."""
        if self._drawn:
            self._live.start()  # again and again: it is started once
            console = self._live.console
            most = max(0, min(MOST_BARS, console.height - 3))
            lines = run_lines(snapshot, console.width - 1, glyphs_for(console.encoding), most)
            self._live.update(Text("\n".join(lines), no_wrap=True), refresh=True)


def run_lines(snapshot: Snapshot, width: int, glyphs: Glyphs, most_bars: int = MOST_BARS) -> list[str]:
    """The view as lines of at most ``width`` columns: the figures, then a bar for each of the first ``most_bars``
    videos under way, then how many more there are."""
    bars = [_video_line(video, width, glyphs) for video in snapshot.under_way[:most_bars]]
    more = len(snapshot.under_way) - most_bars
    return [_header(snapshot, width), *bars, *([shortened(f"and {more} more", width)] if more > 0 else [])]


def _header(snapshot: Snapshot, width: int) -> str:
    """As many figures as fit, the most wanted first."""
    line, *others = _figures(snapshot)
    for figure in others:
        if cell_len(line) + 2 + cell_len(figure) > width:
            break
        line = f"{line}, {figure}"
    return shortened(line, width)


def _figures(snapshot: Snapshot) -> list[str]:
    """What is said of a run, without what is not known yet."""
    left = snapshot.remaining_s
    figures = [
        f"{snapshot.settled}/{counted(snapshot.video_count, 'video')}",
        f"{snapshot.failed} failed" if snapshot.failed else "",
        f"{span(left)} left" if left is not None else "",
        f"{snapshot.video_hours_per_hour:.1f} video-hours/h" if snapshot.video_s else "",
        counted(snapshot.segment_count, "segment"),
        f"{_encoders(snapshot.encoder_count)} {snapshot.encoder_share:.0%} busy" if snapshot.encoder_count else "",
        f"{counted(snapshot.waiting, 'video')} waiting",
        f"{counted(snapshot.queued_segment_count, 'segment')} queued",
    ]
    return [figure for figure in figures if figure]


def _encoders(count: int) -> str:
    return "encoder" if count == 1 else f"{count} encoders"


def _video_line(video: VideoProgress, width: int, glyphs: Glyphs) -> str:
    room = max(8, width // NAME_SHARE)
    name = set_cell_size(shortened(video.uri.rsplit("/", 1)[-1], room), room)
    share = video.frame_count / video.total_frame_count if video.total_frame_count else 0.0
    return _cut(f"{name} {bar(share, BAR_WIDTH, glyphs)} {_done(video)}", width)


def _cut(line: str, width: int) -> str:
    """Cut to ``width`` columns; unlike ``shortened``, runs of blanks stay."""
    return line.rstrip() if cell_len(line.rstrip()) <= width else set_cell_size(line, max(0, width))


def _done(video: VideoProgress) -> str:
    done, total = video.frame_count, video.total_frame_count
    if not total:
        return "reading"
    segments = [-(-frames // video.segment_frames) for frames in (done, total)]
    return f"{done}/{total} frames, {segments[0]}/{segments[1]} segments"
