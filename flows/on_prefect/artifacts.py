"""What a run leaves in the Prefect UI: its figures and charts, a table of its videos, the failures and why."""

from __future__ import annotations

from flows.on_prefect.charts import throughput_chart, time_chart
from flows.result import IndexResult, RunReport
from flows.text import counted, one_line, size, span

MOST_ROWS = 300
# Failures first, then what was done, then what needed nothing.
ORDER = ("failed", "pending", "failed-before", "gone", "indexed", "duplicate", "unchanged")


def send_artifacts(report: RunReport) -> None:
    """Create the artifacts; inside a flow run."""
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    create_markdown_artifact(run_page(report), key="tempo-run", description="The run: figures, throughput, time")
    create_table_artifact(video_table(report), key="tempo-videos", description=_table_note(report))
    create_markdown_artifact(failure_page(report), key="tempo-failures", description="What failed, and why")


def run_page(report: RunReport) -> str:
    """Figures and charts as markdown."""
    summary = report.summary
    counts = "\n".join(f"| {status} | {count:,} |" for status, count in summary.counts.items() if count)
    speed = summary.duration_s / summary.seconds if summary.seconds > 0 else 0.0
    figures = (
        f"**{counted(summary.segments, 'segment')}** of {span(summary.duration_s)} of video, "
        f"{size(summary.state_bytes)} of states, in **{span(summary.seconds)}**: "
        f"{speed:.1f} hours of video per hour."
    )
    parts = [figures, f"| videos | |\n|---|---:|\n{counts}" if counts else "Nothing to do."]
    if chart := throughput_chart(report.snapshots):
        parts.append(f"### Throughput\n\n{chart}")
    if chart := time_chart(report.spent):
        parts.append(f"### Where the time went\n\n{chart}\n\nWork summed over all processes: the steps overlap.")
    return "\n\n".join(parts) + "\n"


def failure_page(report: RunReport) -> str:
    """What failed now or before, each with its reason, as a markdown list."""
    found = [result for result in report.results if result.status in {"failed", "failed-before"}]
    found.sort(key=lambda result: ORDER.index(result.status))
    if not found:
        return "Nothing failed.\n"
    lines = [f"- {_code(result.uri)}{_when(result)}: {_text(result.reason or '')}" for result in found[:MOST_ROWS]]
    if len(found) > MOST_ROWS:
        lines.append(f"- and {len(found) - MOST_ROWS:,} more: `tempo status` lists all")
    passing = sum(result.tried_again for result in found)
    way_out = "They are left out until they change; `tempo index --retry-failed` tries them again."
    if passing:
        way_out += f" Later runs try {passing:,} of them by themselves: the file was not at fault."
    return "\n".join([f"{counted(len(found), 'video')} could not be indexed. {way_out}", "", *lines, ""])


def _when(result: IndexResult) -> str:
    if result.tried_again:
        return " (not the file's fault: tried again)"
    return " (before, not tried again)" if result.status == "failed-before" else ""


def video_table(report: RunReport) -> list[dict[str, str | int]]:
    """A row per video, what failed first, at most ``MOST_ROWS``; the rest is one row that counts it."""
    results = sorted(report.results, key=lambda result: ORDER.index(result.status))
    rows = [_row(result) for result in results[:MOST_ROWS]]
    if len(results) > MOST_ROWS:
        rest = f"and {len(results) - MOST_ROWS:,} more"
        rows.append({"video": rest, "status": "", "duration": "", "segments": "", "size": "", "took": ""})
    return rows


def _row(result: IndexResult) -> dict[str, str | int]:
    return {
        "video": one_line(result.uri),
        "status": result.status,
        "duration": span(result.duration_s) if result.duration_s else "",
        "segments": result.segments,
        "size": size(result.state_bytes) if result.state_bytes else "",
        "took": span(result.seconds) if result.seconds else "",
    }


def _table_note(report: RunReport) -> str:
    return f"{counted(len(report.results), 'video')}, what failed first"


def _code(text: str) -> str:
    """A name as code: nothing in it is markdown."""
    shown = one_line(text)
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def _text(text: str) -> str:
    """A reason on one line, with nothing in it that markdown or HTML would take for its own."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>#|" else character for character in one_line(text))
