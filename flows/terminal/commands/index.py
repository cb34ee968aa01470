"""``tempo index``: read new videos into a library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.request import IndexRequest
from flows.terminal.options import JsonOption, takes_request
from flows.terminal.output import Page, error_page, print_json

if TYPE_CHECKING:
    from flows.run.estimate import Estimate
    from flows.run.plan import Plan

EXIT_SOME_FAILED = 3

PlanOption = Annotated[bool, typer.Option("--plan", help="Show what would be done, its bytes and hours; do nothing.")]


@takes_request
def index(request: IndexRequest, plan: PlanOption = False, as_json: JsonOption = False) -> None:
    """Read new and changed videos into a library, once. Unchanged files are not opened, copies not read twice.

    \b
    tempo index talk.mp4 --library ./lib
    tempo index /archive --library ./lib --until 06:30 --exclude 'raw/' --exclude '*.part.mp4'
    tempo index 's3://bucket/2026/*/cam1/*.mp4' --library s3://bucket/lib --model Vision-CAIR/Tempo-6B
    tempo index /archive --library ./lib --model Qwen/Qwen3-VL-2B-Instruct --features Qwen/Qwen3-VL-Embedding-2B
    tempo index @tonight.txt --library ./lib --max-hours 5
    tempo index /archive --library ./lib --plan

    Exit code 3: some videos failed; their reasons are shown and recorded. They are left out until they change or
    --retry-failed is given; where the file was not at fault, later runs try them again by themselves.
    """
    from flows.run.indexing import IndexRun
    from flows.terminal.reporters import terminal_reporter

    with terminal_reporter(as_json) as reporter:
        if plan:
            _show_plan(*IndexRun(request, reporter).plan_only(), as_json)
            return
        from flows.on_prefect.api import run_index

        summary = run_index(request, reporter).summary
    if as_json:
        print_json(summary.to_json())
    else:
        Page().line(summary.details, style="bold")
    if summary.failed_now:
        raise typer.Exit(EXIT_SOME_FAILED)


def _show_plan(plan: Plan, estimate: Estimate, as_json: bool) -> None:
    if as_json:
        _print_json_plan(plan, estimate)
        return
    from flows.terminal.reporters import show_result
    from flows.text import counted, one_line, size, span

    page = Page()
    for task in plan.tasks:
        page.line(f"to index      {task.why:<11}  {one_line(task.source.uri)}  {size(task.source.size)}")
    for result in plan.settled:
        show_result(result, page)
    work = f", about {span(estimate.seconds)} of work" if estimate.seconds is not None else ""
    video = f"{span(estimate.video_hours * 3600)} of video, {counted(estimate.segments, 'segment')}"
    page.line(f"{len(plan.tasks)} to index: {video}, about {size(estimate.bytes)}{work}", style="bold")
    if estimate.basis:
        error_page().line(estimate.basis, style="dim")


def _print_json_plan(plan: Plan, estimate: Estimate) -> None:
    from flows.result import summarize

    tasks = [{"uri": task.source.uri, "why": task.why, "bytes": task.source.size} for task in plan.tasks]
    pending = [{"uri": result.uri, "reason": result.reason} for result in plan.settled if result.status == "pending"]
    counts = summarize(plan.settled, 0.0).counts
    print_json({"tasks": tasks, "pending": pending, "counts": counts, **estimate.to_json()})
