"""Charts of a run as SVG images inside markdown: both of Prefect's UIs show those, and neither shows inline SVG.

Each has its own light background, since the page around it may be dark, and its numbers in the alternative text.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from flows.snapshot import Snapshot, Spent
from flows.text import span

WIDTH, HEIGHT, ROW = 760, 240, 34
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 30, 30
COLUMNS = 120  # of the throughput chart at most: a night in steps of four minutes
INK, PALE, BLUE = "#1f2937", "#d1d5db", "#2563eb"
LABELS = {"fetch": "fetch and hash"}  # of a step whose name does not say all of it


def throughput_chart(snapshots: Sequence[Snapshot]) -> str:
    """Hours of video per hour over the run's time, a markdown image; empty where there was no time to measure."""
    rates = rates_over_time(snapshots, COLUMNS)
    top = max(rates, default=0.0)
    if top <= 0:
        return ""
    elapsed = snapshots[-1].elapsed_s
    across, up = (WIDTH - LEFT - RIGHT) / len(rates), HEIGHT - TOP - BOTTOM
    bottom = HEIGHT - BOTTOM
    points = [
        (LEFT + across * (at + side), bottom - up * rate / top) for at, rate in enumerate(rates) for side in (0, 1)
    ]
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(LEFT, bottom), *points, (WIDTH - RIGHT, bottom)])
    marks = [
        f'<path d="M{LEFT} {bottom - up * share:.0f}H{WIDTH - RIGHT}" stroke="{PALE}"/>'
        + _text(LEFT - 8, bottom - up * share + 4, _rate(top * share), "end")
        for share in (0.0, 0.5, 1.0)
    ]
    times = [_text(LEFT, HEIGHT - 8, "0", "middle"), _text(WIDTH - RIGHT, HEIGHT - 8, span(elapsed), "end")]
    area = f'<polygon points="{outline}" fill="{BLUE}" fill-opacity="0.75"/>'
    title = _text(LEFT, 18, "hours of video per hour", "start")
    alt = f"hours of video per hour over {span(elapsed)}, at most {_rate(top)}"
    return _image([title, *marks, area, *times], HEIGHT, alt)


def time_chart(spent: Spent) -> str:
    """Seconds of work by step as bars, a markdown image; empty where none was counted."""
    seconds = {LABELS.get(step, step): value for step, value in spent.by_step().items()}
    total = sum(seconds.values())
    if total <= 0:
        return ""
    left, room = 120, WIDTH - 120 - 130
    parts = []
    for row, (step, value) in enumerate(seconds.items()):
        y = 10 + row * ROW
        parts += [
            _text(left - 10, y + 18, step, "end"),
            f'<rect x="{left}" y="{y + 2}" width="{room}" height="24" fill="{PALE}" fill-opacity="0.4"/>',
            f'<rect x="{left}" y="{y + 2}" width="{room * value / total:.1f}" height="24" fill="{BLUE}"/>',
            _text(left + room + 10, y + 18, f"{value / total:.0%}, {span(value)}", "start"),
        ]
    alt = ", ".join(f"{step} {span(value)}" for step, value in seconds.items())
    return _image(parts, 20 + ROW * len(seconds), alt)


def rates_over_time(snapshots: Sequence[Snapshot], columns: int) -> list[float]:
    """Hours of video per hour in each of at most ``columns`` equal spans of the run, a video as it is encoded."""
    if len(snapshots) < 2 or snapshots[-1].elapsed_s <= snapshots[0].elapsed_s:
        return []
    first, last = snapshots[0].elapsed_s, snapshots[-1].elapsed_s
    columns = min(columns, len(snapshots) - 1)
    step = (last - first) / columns
    done = [_video_s(snapshots, first + step * column) for column in range(columns + 1)]
    return [max(0.0, later - earlier) / step for earlier, later in pairwise(done)]


def _video_s(snapshots: Sequence[Snapshot], elapsed_s: float) -> float:
    """Seconds of video indexed by then, on a straight line between two snapshots."""
    for before, after in pairwise(snapshots):
        if elapsed_s <= after.elapsed_s:
            share = (elapsed_s - before.elapsed_s) / max(after.elapsed_s - before.elapsed_s, 1e-9)
            return before.video_s + share * (after.video_s - before.video_s)
    return snapshots[-1].video_s


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 or value == 0 else f"{value:.3g}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'


def _image(parts: Sequence[str], height: int, alt: str) -> str:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" rx="6" fill="#ffffff"/>'
        f"{''.join(parts)}</svg>"
    )
    return f"![{alt}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"
