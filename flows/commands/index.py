"""``tempo index``: read new videos into a library."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import JsonOption, LibraryOption, ModelOption
from flows.output import Page, error_page, notice, print_json

if TYPE_CHECKING:
    from flows.estimate import Estimate
    from flows.plan import Plan
    from flows.result import IndexResult, RunSummary

EXIT_SOME_FAILED = 3

SourcesArgument = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE...", help="Video files, folders, patterns, or s3:// addresses.", show_default=False),
]
SpecOption = Annotated[
    str | None,
    typer.Option(
        "--spec",
        metavar="NAME",
        help="How videos are sampled: paper (2 frames/s, at most 1024), paper-2048, dense (no cap). Default: the "
        "library's, else paper.",
        show_default=False,
    ),
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Say what would be done, its bytes and hours; do nothing.")]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", metavar="HH:MM", help="Begin no video after this time of day.", show_default=False),
]


def index(
    sources: SourcesArgument,
    library: LibraryOption,
    model: ModelOption = None,
    spec: SpecOption = None,
    plan: PlanOption = False,
    retry_failed: RetryOption = False,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read new and changed videos into a library, once. Unchanged files are not opened, copies not read twice.

    \b
    tempo index talk.mp4 --library ./lib
    tempo index /archive --library ./lib --until 06:30
    tempo index s3://bucket/videos/ --library s3://bucket/lib --model Vision-CAIR/Tempo-6B
    tempo index /archive --library ./lib --plan

    Exit code 3: some videos failed; their reasons are shown and kept, and they are left out until they change or
    --retry-failed is given.
    """
    from flows.clock import next_time
    from flows.session import Wish, plan_only, run_index

    moment = next_time(until, datetime.now().astimezone()) if until is not None else None
    wish = Wish(tuple(sources), library, model, spec, retry_failed=retry_failed, until=moment)
    if plan:
        _show_plan(*plan_only(wish, notice()), as_json)
        return
    shown = print_json_result if as_json else print_result
    summary = run_index(wish, notice(), shown, readable=not as_json).summary
    if as_json:
        print_json(summary.to_json())
    else:
        _show_summary(summary)
    if summary.failed_now:
        raise typer.Exit(EXIT_SOME_FAILED)


def print_json_result(result: IndexResult, _page: Page) -> None:
    """One JSON line."""
    print_json(result.to_json())


def print_result(result: IndexResult, page: Page) -> None:
    """One readable line; what is unchanged is only counted."""
    from flows.view import clock, counted, size, span

    if result.status == "unchanged":
        return
    if result.status in {"indexed", "duplicate"}:
        told = f"{clock(result.duration_s)}, {counted(result.segments, 'segment')}, {size(result.state_bytes)}"
        told += f", {span(result.seconds)}"
    else:
        told = result.reason or ""
    style = {"failed": "red", "failed-before": "yellow", "gone": "yellow", "pending": "yellow"}.get(result.status)
    page.line(f"{result.status:<13} {result.uri}  {told}", style=style)
    for warning in result.warnings if result.status == "indexed" else ():
        page.line(f"{'':<13} note: {warning}", style="yellow")


def _show_summary(summary: RunSummary) -> None:
    from flows.view import counted, span

    statuses = ", ".join(f"{count} {status}" for status, count in summary.counts.items() if count)
    segments = counted(summary.segments, "segment")
    Page().line(f"{statuses or 'nothing to do'}; {segments} in {span(summary.seconds)}", style="bold")


def _show_plan(plan: Plan, estimate: Estimate, as_json: bool) -> None:
    from flows.result import summarize
    from flows.view import counted, size, span

    if as_json:
        counts = summarize(plan.settled, 0.0).counts
        print_json({"tasks": [task.source.uri for task in plan.tasks], "counts": counts, **estimate.to_json()})
        return
    page = Page()
    for task in plan.tasks:
        page.line(f"to index      {task.source.uri}  {size(task.source.size)}")
    for result in plan.settled:
        print_result(result, page)
    spent = f", about {span(estimate.seconds)} of work" if estimate.seconds is not None else ""
    hours = f"{span(estimate.video_hours * 3600)} of video, {counted(estimate.segments, 'segment')}"
    page.line(f"{len(plan.tasks)} to index: {hours}, about {size(estimate.bytes)}{spent}", style="bold")
    if estimate.probed < estimate.videos:
        error_page().line(f"{estimate.probed} files were read for this; the others are taken to be alike", style="dim")
