"""What a run plans, estimates and leaves for later."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.estimate import RESERVE_BYTES, TYPICAL_BYTES_PER_S, ModelCost, check_space, estimate
from flows.plan import Known, Task, make_plan
from flows.result import IndexResult, summarize
from flows.session import Wish, run_index
from storage import FailureRecord, Part, Source, VideoFacts, VideoRecord
from tempo_cli import contents, index, small_video
from tempo_core.errors import NoSpace
from tempo_core.fingerprints import Fingerprints
from tempo_core.spec import NAMED_SPECS, PAPER, FrameGeometry

MINE, OTHER = Fingerprints("f", "s", "mine"), Fingerprints("f", "s", "other")
FACTS = VideoFacts(60.0, 1920, 1080, "model", PAPER)


def source(name: str, size: int = 100, modified: str = "1") -> Source:
    return Source(f"/archive/{name}", size, modified)


def record(of: Source, prints: Fingerprints = MINE) -> VideoRecord:
    return VideoRecord(of, "id", "g", prints, FACTS, Part("f", "", 5), Part("s", "", 7), 15, 120, 0.0)


def failure(of: Source, stage: str = "decode") -> FailureRecord:
    return FailureRecord(of, MINE.features, "broken", stage, 1, 0.0)


def planned(
    found: list[Source], records: list[VideoRecord], failures: list[FailureRecord], retry: bool = False
) -> tuple[dict[str, str], list[Task]]:
    plan = make_plan(found, Known(records, failures, MINE.features), ["/archive/"], retry)
    return {Path(result.uri).name: result.status for result in plan.settled}, list(plan.tasks)


def test_same_size_and_time_is_unchanged() -> None:
    assert planned([source("a")], [record(source("a"))], []) == ({"a": "unchanged"}, [])


@pytest.mark.parametrize("now", [source("a", size=101), source("a", modified="2")])
def test_another_size_or_time_is_to_be_read_again(now: Source) -> None:
    before = record(source("a"))
    assert planned([now], [before], []) == ({}, [Task(now, None, before)])


def test_the_same_file_under_another_model_has_a_known_content() -> None:
    other = record(source("a"), OTHER)
    assert planned([source("a")], [other], []) == ({}, [Task(source("a"), known=other)])
    assert planned([source("a", size=5)], [other], []) == ({}, [Task(source("a", size=5))])


def test_what_failed_is_left_out_while_it_is_the_same() -> None:
    assert planned([source("a")], [], [failure(source("a"))]) == ({"a": "failed-before"}, [])
    assert planned([source("a", size=5)], [], [failure(source("a"))])[1] == [Task(source("a", size=5))]
    assert planned([source("a")], [], [failure(source("a"))], retry=True)[1] == [Task(source("a"))]


@pytest.mark.parametrize("stage", ["fetch", "memory"])
def test_what_was_not_the_files_fault_is_tried_each_time(stage: str) -> None:
    assert planned([source("a")], [], [failure(source("a"), stage)])[1] == [Task(source("a"))]


def test_only_what_was_below_the_named_folders_can_be_gone() -> None:
    elsewhere = dataclasses.replace(source("c"), uri="/elsewhere/c")
    records = [record(source("a")), record(source("b")), record(elsewhere), record(source("d"), OTHER)]
    assert planned([source("a")], records, [])[0] == {"a": "unchanged", "b": "gone"}


def test_a_summary_counts_every_status_and_measures_the_new() -> None:
    results = [
        IndexResult("a", "indexed", segments=3, frames=24, duration_s=12.0, state_bytes=10),
        IndexResult("b", "unchanged", segments=5, frames=40, duration_s=20.0, state_bytes=10),
        IndexResult("c", "failed", reason="broken"),
    ]
    summary = summarize(results, 2.0)
    assert summary.counts | {"indexed": 1, "unchanged": 1, "failed": 1, "pending": 0, "gone": 0} == summary.counts
    assert (summary.segments, summary.frames, summary.duration_s, summary.state_bytes) == (3, 24, 12.0, 10)
    assert summary.failed_now
    assert not summarize(results[:2], 1.0).failed_now


def test_an_estimate_follows_from_durations() -> None:
    """An hour of 1080p: 1,024 frames in 128 segments, 65,536 visual tokens (DESIGN: 1.1 GB in bfloat16 at 16 kB)."""
    facts = dataclasses.replace(FACTS, duration_s=3600.0)
    known = dataclasses.replace(record(source("a"), OTHER), facts=facts)
    found = estimate([Task(source("a"), known)], PAPER, FrameGeometry(), ModelCost(16_384.0, 1e-3))
    assert (found.videos, found.probed, found.segments) == (1, 1, 128)
    assert found.video_hours == pytest.approx(1.0)
    assert found.bytes == pytest.approx(65_536 * 16_384, rel=0.05)
    assert found.seconds == pytest.approx(65.5, rel=0.01)  # nothing to decode


def test_what_is_not_probed_is_taken_to_be_alike() -> None:
    far = [dataclasses.replace(source("x", size=int(TYPICAL_BYTES_PER_S * 600)), uri="s3://bucket/x")] * 3
    found = estimate([Task(one) for one in far], NAMED_SPECS["dense"], FrameGeometry(), ModelCost(1.0))
    assert (found.videos, found.probed, found.seconds) == (3, 0, None)
    assert found.video_hours == pytest.approx(0.5)
    assert found.segments == 3 * 150


def test_a_few_files_stand_for_many(tmp_path: Path) -> None:
    video = small_video(tmp_path / "a.mp4", seconds=6)
    many = [Task(Source(str(video), video.stat().st_size, str(number))) for number in range(100)]
    broken = tmp_path / "b.mp4"
    broken.write_text("no video")
    many.append(Task(Source(str(broken), 8, "1")))
    found = estimate(many, PAPER, FrameGeometry(), ModelCost(1.0))
    assert found.video_hours == pytest.approx(600 / 3600, rel=0.02)


def test_a_full_disk_is_said_before_anything_is_written() -> None:
    found = estimate([Task(source("a"), record(source("a"), OTHER))], PAPER, FrameGeometry(), ModelCost(16_384.0))
    check_space(found, None, "s3://bucket/library")
    check_space(found, found.bytes + RESERVE_BYTES, "/library")
    with pytest.raises(NoSpace, match=r"GB are needed at /library for 1 video, .* are free"):
        check_space(found, found.bytes + RESERVE_BYTES - 1, "/library")


def test_what_the_time_did_not_allow_is_pending_and_done_next_time(tmp_path: Path) -> None:
    video, library, shown = small_video(tmp_path / "talk.mp4"), tmp_path / "library", list[IndexResult]()
    over = datetime.now(UTC) - timedelta(seconds=1)
    summary = run_index(Wish((str(video),), str(library), until=over), print, lambda result, page: shown.append(result))
    assert [result.status for result in shown] == ["pending"]
    assert (summary.counts["pending"], summary.failed_now) == (1, False)
    assert contents(library)["failures"] == set()
    assert [line["status"] for line in index(library, video)] == ["indexed"]
