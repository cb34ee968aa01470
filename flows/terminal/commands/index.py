"""``tempo index``: read new videos into a library."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flows.terminal.options import JsonOption, LibraryOption, ModelOption
from flows.terminal.output import Page, error_page, notice, print_json

if TYPE_CHECKING:
    from flows.result import IndexResult, RunSummary
    from flows.run.estimate import Estimate
    from flows.run.plan import Plan
    from flows.run.session import Wish

EXIT_SOME_FAILED = 3

SourcesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Video files, folders, patterns (in quotation marks, ** for any depth), s3:// addresses and patterns, or "
        "@FILE: a list of them, one a line.",
        show_default=False,
    ),
]
SpecOption = Annotated[
    str | None,
    typer.Option(
        "--spec",
        metavar="NAME",
        help="How videos are sampled: paper (2 frames/s, at most 1024), paper-int8 (its states at half the bytes), "
        "paper-2048, dense (no cap), keyframes (a fraction of the decoding), paper-nvdec and keyframes-nvdec (decoded "
        "on an NVIDIA GPU). Default: the library's, else paper.",
        show_default=False,
    ),
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Say what would be done, its bytes and hours; do nothing.")]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        metavar="PATTERN",
        help="Only what fits this pattern; may be given again. As in .gitignore: '*.mp4' and 'cam1' fit a name of a "
        "file or folder at any depth, '/2026/*/cam1' a path from the SOURCE on.",
        show_default=False,
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="PATTERN",
        help="Nothing that fits this pattern, also where an --include fits; may be given again.",
        show_default=False,
    ),
]
SettleOption = Annotated[
    float | None,
    typer.Option(
        "--settle",
        metavar="SECONDS",
        envvar="TEMPO_SETTLE",
        help="A file that is found below a folder or by a pattern and is younger than this waits for the next run: it "
        "may still be written. One that is named itself is taken at once. Default: 10.",
        show_default=False,
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="HH:MM",
        help="Begin no video after this time of day. Up to six hours after it, the time is over and nothing is begun; "
        "later it is tomorrow's. What is left goes first in the next run.",
        show_default=False,
    ),
]
MaxHoursOption = Annotated[
    float | None,
    typer.Option(
        "--max-hours",
        metavar="H",
        help="Begin no video after so many hours (5.5). With --until, the earlier of the two counts.",
        show_default=False,
    ),
]


def _ray_place(place: str) -> str:
    if place in {"auto", "off", "local"} or re.fullmatch(r"(?!ray://).*[^:/]:\d{1,5}", place):
        return place
    raise typer.BadParameter(f"{place} is neither auto, off, local nor the HOST:PORT of a cluster (10.0.0.5:6379)")


RayOption = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="WHERE",
        envvar="RAY_ADDRESS",
        callback=_ray_place,
        help="Where to work: auto (a few videos in this process, more on a Ray of this machine), off (all in this "
        "process), local (a Ray of this machine), or HOST:PORT of a running cluster.",
    ),
]


def index(  # noqa: PLR0913, PLR0917 - each is an option
    sources: SourcesArgument,
    library: LibraryOption,
    model: ModelOption = None,
    spec: SpecOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    settle: SettleOption = None,
    retry_failed: RetryOption = False,
    until: UntilOption = None,
    max_hours: MaxHoursOption = None,
    ray: RayOption = "auto",
    plan: PlanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read new and changed videos into a library, once. Unchanged files are not opened, copies not read twice.

    \b
    tempo index talk.mp4 --library ./lib
    tempo index /archive --library ./lib --until 06:30 --exclude 'raw/' --exclude '*.part.mp4'
    tempo index 's3://bucket/2026/*/cam1/*.mp4' --library s3://bucket/lib --model Vision-CAIR/Tempo-6B
    tempo index @tonight.txt --library ./lib --max-hours 5
    tempo index /archive --library ./lib --plan

    Exit code 3: some videos failed; their reasons are shown and kept, and they are left out until they change or
    --retry-failed is given.
    """
    from flows.run.discovery import DEFAULT_SETTLE_S
    from flows.run.session import Wish, plan_only

    wish = Wish(
        sources=tuple(sources),
        library=library,
        model=model,
        spec=spec,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        settle_s=DEFAULT_SETTLE_S if settle is None else settle,
        retry_failed=retry_failed,
        until=_deadline(until, max_hours),
        ray=ray,
    )
    if plan:
        _show_plan(*plan_only(wish, notice()), as_json)
    else:
        _run(wish, as_json)


def _run(wish: Wish, as_json: bool) -> None:
    from flows.on_prefect.api import index as run_index

    shown = print_json_result if as_json else print_result
    summary = run_index(wish, notice(), shown, readable=not as_json).summary
    if as_json:
        print_json(summary.to_json())
    else:
        _show_summary(summary)
    if summary.failed_now:
        raise typer.Exit(EXIT_SOME_FAILED)


def _deadline(until: str | None, max_hours: float | None) -> datetime | None:
    """Said aloud where it is over already: a run that only lists what it would have done surprises less."""
    from flows.run.clock import deadline

    now = datetime.now().astimezone()
    end = deadline(until, max_hours, now)
    if end is not None and end <= now:
        notice()(f"{end:%H:%M} is over, so no video is begun; to work until tomorrow's, give --max-hours")
    return end


def print_json_result(result: IndexResult, _page: Page) -> None:
    """One JSON line."""
    print_json(result.to_json())


def print_result(result: IndexResult, page: Page) -> None:
    """One readable line; what is unchanged is only counted."""
    from flows.text import clock, counted, one_line, size, span

    if result.status == "unchanged":
        return
    if result.status in {"indexed", "duplicate"}:
        told = f"{clock(result.duration_s)}, {counted(result.segments, 'segment')}, {size(result.state_bytes)}"
        told += f", {span(result.seconds)}"
    else:
        told = one_line(result.reason or "")
    style = {"failed": "red", "failed-before": "yellow", "gone": "yellow", "pending": "yellow"}.get(result.status)
    page.line(f"{result.status:<13} {one_line(result.uri)}  {told}", style=style)
    for warning in result.warnings if result.status == "indexed" else ():
        page.line(f"{'':<13} note: {one_line(warning)}", style="yellow")


def _show_summary(summary: RunSummary) -> None:
    from flows.text import counted, span

    statuses = ", ".join(f"{count} {status}" for status, count in summary.counts.items() if count)
    segments = counted(summary.segments, "segment")
    Page().line(f"{statuses or 'nothing to do'}; {segments} in {span(summary.seconds)}", style="bold")


def _show_plan(plan: Plan, estimate: Estimate, as_json: bool) -> None:
    if as_json:
        _print_json_plan(plan, estimate)
        return
    from flows.text import counted, one_line, size, span

    page = Page()
    for task in plan.tasks:
        page.line(f"to index      {task.why:<11}  {one_line(task.source.uri)}  {size(task.source.size)}")
    for result in plan.settled:
        print_result(result, page)
    spent = f", about {span(estimate.seconds)} of work" if estimate.seconds is not None else ""
    hours = f"{span(estimate.video_hours * 3600)} of video, {counted(estimate.segments, 'segment')}"
    page.line(f"{len(plan.tasks)} to index: {hours}, about {size(estimate.bytes)}{spent}", style="bold")
    if estimate.basis:
        error_page().line(estimate.basis, style="dim")


def _print_json_plan(plan: Plan, estimate: Estimate) -> None:
    from flows.result import summarize

    tasks = [{"uri": task.source.uri, "why": task.why, "bytes": task.source.size} for task in plan.tasks]
    waiting = [{"uri": one.uri, "reason": one.reason} for one in plan.settled if one.status == "pending"]
    counts = summarize(plan.settled, 0.0).counts
    print_json({"tasks": tasks, "pending": waiting, "counts": counts, **estimate.to_json()})
