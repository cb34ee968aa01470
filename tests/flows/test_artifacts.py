"""What a run leaves in the Prefect UI, as pure text."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.on_prefect.artifacts import MOST_ROWS, failure_page, run_page, video_table
from flows.on_prefect.charts import rates_over_time, throughput_chart, time_chart
from flows.result import IndexResult, RunReport, Status, summarize
from flows.snapshot import Snapshot, Spent


def snapshot(elapsed_s: float, video_s: float) -> Snapshot:
    return Snapshot(elapsed_s, 9, 0, 0, 0, video_s, 0, 0, 0, 0, 0, 1, 0.0)


def report(*results: IndexResult, snapshots: tuple[Snapshot, ...] = ()) -> RunReport:
    return RunReport(results, summarize(results, 60.0), snapshots)


def result(uri: str, status: Status = "indexed", reason: str | None = None) -> IndexResult:
    return IndexResult(uri, status, reason=reason, segments=2, duration_s=120.0, state_bytes=3_000_000, seconds=1.5)


def svg(image: str) -> ElementTree.Element:
    data = re.fullmatch(r"!\[[^\]]+\]\(data:image/svg\+xml;base64,([^)]+)\)", image)
    assert data is not None
    return ElementTree.fromstring(b64decode(data[1]))


def test_the_table_has_a_row_per_video_and_what_failed_comes_first() -> None:
    rows = video_table(report(result("a.mp4"), result("b.mp4", "failed", "no video"), result("c.mp4", "unchanged")))
    assert [(row["video"], row["status"]) for row in rows] == [
        ("b.mp4", "failed"),
        ("a.mp4", "indexed"),
        ("c.mp4", "unchanged"),
    ]
    assert rows[1] == {
        "video": "a.mp4",
        "status": "indexed",
        "duration": "2 min",
        "segments": 2,
        "size": "3.0 MB",
        "took": "1.5 s",
    }


def test_a_long_table_ends_in_a_count() -> None:
    rows = video_table(report(*(result(f"{number}.mp4") for number in range(MOST_ROWS + 1234))))
    assert len(rows) == MOST_ROWS + 1
    assert rows[-1]["video"] == "and 1,234 more"


def test_failures_are_listed_with_their_reasons_and_the_way_out() -> None:
    page = failure_page(
        report(result("a.mp4"), result("b.mp4", "failed-before", "moov"), result("c.mp4", "failed", "x"))
    )
    lines = [line for line in page.splitlines() if line.startswith("- ")]
    assert lines == ["- `c.mp4`: x", "- `b.mp4` (before, not tried again): moov"]
    assert "2 videos could not be indexed" in page
    assert "--retry-failed" in page
    assert failure_page(report(result("a.mp4"))) == "Nothing failed.\n"


def test_names_and_reasons_are_no_markup() -> None:
    page = failure_page(report(result("a`b\n.mp4", "failed", "<img src=x> [x](y) *z*")))
    assert "- `` a`b .mp4 ``: \\<img src=x\\> \\[x\\](y) \\*z\\*" in page


def test_the_page_says_figures_and_shows_charts() -> None:
    last = replace(snapshot(20, 36000), spent=Spent(decode_s=9.0, encode_s=1.0))
    page = run_page(report(result("a.mp4"), snapshots=(snapshot(0, 0), snapshot(10, 36000), last)))
    assert "**2 segments** of 2 min of video, 3.0 MB of states, in **60 s**: 2.0 hours of video per hour." in page
    assert "| indexed | 1 |" in page
    images = [line for line in page.splitlines() if line.startswith("![")]
    assert [bool(svg(image)) for image in images] == [True, True]
    assert "at most 3600" in images[0]
    assert "decode 9.0 s, encode 1.0 s" in images[1]


def test_a_run_without_work_has_no_charts() -> None:
    assert "![" not in run_page(report())
    assert "Nothing to do." in run_page(report())


def test_bars_are_as_long_as_their_share() -> None:
    boxes = [one for one in svg(time_chart(Spent(1.0, 6.0, 2.0, 1.0))) if one.tag.endswith("rect")][1:]
    grounds, bars = boxes[0::2], boxes[1::2]
    shares = [
        float(bar.attrib["width"]) / float(ground.attrib["width"]) for ground, bar in zip(grounds, bars, strict=True)
    ]
    assert shares == pytest.approx([0.1, 0.6, 0.2, 0.1], abs=1e-3)


@given(st.lists(st.tuples(st.floats(0.01, 1e4), st.floats(0, 1e6)), min_size=1, max_size=40), st.integers(1, 50))
def test_rates_over_time_add_up_to_what_was_done(steps: list[tuple[float, float]], columns: int) -> None:
    snapshots = [snapshot(0.0, 0.0)]
    for took_s, done_s in steps:
        snapshots.append(snapshot(snapshots[-1].elapsed_s + took_s, snapshots[-1].video_s + done_s))
    rates = rates_over_time(snapshots, columns)
    total = sum(rates) * snapshots[-1].elapsed_s / len(rates)
    assert 1 <= len(rates) <= columns
    assert total == pytest.approx(snapshots[-1].video_s, rel=1e-6, abs=1e-6)


def test_the_chart_shows_a_pause() -> None:
    chart = throughput_chart([snapshot(0, 0), snapshot(10, 50), snapshot(20, 50), snapshot(30, 100)])
    area = next(one for one in svg(chart) if one.tag.endswith("polygon"))
    heights = [float(point.split(",")[1]) for point in area.attrib["points"].split()]
    assert heights == [210, 30, 30, 210, 210, 30, 30, 210]
