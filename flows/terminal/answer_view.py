"""An answer for people: the cited moments with their relevance, and the visual tokens over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

from flows.terminal.output import Page
from flows.text import bar, clock, counted, shortened, span, strip

if TYPE_CHECKING:
    from serving.answer import Answer, AskedSegment, SearchHit

BAR_WIDTH, MOST_NAME, MARGIN = 10, 40, 2


def show_answer(page: Page, answer: Answer) -> None:
    """Print what stands below the answer's text: moments, allocation, tokens and times."""
    show_moments(page, answer)
    _allocation(page, answer.segments)
    _footer(page, answer)


def show_hits(page: Page, hits: Sequence[SearchHit]) -> None:
    """Print search results, best first."""
    if not hits:
        page.line("nothing found: the library holds no segment yet")
    for hit in hits:
        _moment(page, hit.start_s, hit.end_s, hit.score, hit.title)


def show_moments(page: Page, answer: Answer) -> None:
    """Print the cited moments and the answer's warnings."""
    page.line()
    page.line("Moments", style="bold")
    for cited in answer.citations:
        _moment(page, cited.start_s, cited.end_s, cited.relevance, _name(cited.uri))
    if not answer.citations:
        page.line("  none: no segment stands out")
    for warning in answer.warnings:
        page.line(f"note: {warning}", style="yellow")
    page.line()


def _moment(page: Page, start_s: float, end_s: float, share: float, name: str) -> None:
    times = f"{clock(start_s)}{page.glyphs.dash}{clock(end_s)}"
    room = max(0, min(MOST_NAME, page.width - len(times) - BAR_WIDTH - 12))
    page.line(f"  {times}  {bar(share, BAR_WIDTH, page.glyphs)} {share:5.3f}  {shortened(name, room)}".rstrip())


def _allocation(page: Page, segments: Sequence[AskedSegment]) -> None:
    if not segments:
        return
    kind = "Memory" if segments[0].pairs is None else "Visual"
    page.line(f"{kind} tokens over time", style="bold")
    for _, group in groupby(segments, key=lambda segment: segment.uri):
        _one_strip(page, list(group))
    page.line()


def _one_strip(page: Page, segments: Sequence[AskedSegment]) -> None:
    start, end = clock(segments[0].start_s), clock(segments[-1].end_s)
    room = max(8, page.width - len(start) - len(end) - 2 - 2 * MARGIN)
    tokens = [segment.tokens for segment in segments]
    page.line(f"  {start} {strip(tokens, room, page.glyphs)} {end}")
    page.line(f"  {shortened(_name(segments[0].uri), page.width - 20)}, {counted(sum(tokens), 'token')}", style="dim")


def _footer(page: Page, answer: Answer) -> None:
    usage, timings = answer.usage, asdict(answer.timings_s)
    total = timings.pop("total")
    steps = ", ".join(f"{step} {span(spent)}" for step, spent in timings.items())
    page.line(f"{usage.visual_tokens:,} of {usage.token_budget:,} visual tokens, model {answer.model}", style="dim")
    if answer.reader != answer.model:
        page.line(f"read by {answer.reader}", style="dim")
    page.line(f"{span(total)} ({steps})", style="dim")


def _name(uri: str) -> str:
    return uri.rstrip("/").rsplit("/", 1)[-1]
