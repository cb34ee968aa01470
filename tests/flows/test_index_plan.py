"""What a run plans, estimates and leaves for later."""

from __future__ import annotations

import dataclasses
import math
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.failure import due_again
from flows.reporter import Reporter
from flows.request import IndexRequest
from flows.result import IndexResult, summarize
from flows.run.discovery import Discovered, Unsettled
from flows.run.estimate import RESERVE_BYTES, TYPICAL_BYTES_PER_S, ModelCost, check_space, estimate
from flows.run.indexing import IndexRun
from flows.run.plan import Known, Task, make_plan
from storage import FailureRecord, Part, Source, VideoFacts, VideoRecord, open_library
from storage.sources.patterns import PathFilter
from storage.sources.source_sets import SourceSet
from tempo_core.errors import NoSpace
from tempo_core.fingerprints import Fingerprints
from tempo_core.spec import NAMED_SPECS, PAPER, FrameGeometry
from tests.support.tempo_cli import contents, index, small_video

MINE, OTHER = Fingerprints("f", "s", "mine"), Fingerprints("f", "s", "other")
FACTS = VideoFacts(60.0, 1920, 1080, "model", PAPER)


def source(name: str, size: int = 100, modified: str = "1") -> Source:
    return Source(f"/archive/{name}.mp4", size, modified)


def record(of: Source, prints: Fingerprints = MINE) -> VideoRecord:
    return VideoRecord(of, "id", "g", prints, FACTS, Part("f", "", 5), Part("s", "", 7), 15, 120, 0.0)


def failure(of: Source, stage: str = "decode") -> FailureRecord:
    return FailureRecord(of, MINE.features, "broken", stage, 1, 0.0)


def seen(*sources: Source, unsettled: tuple[Source, ...] = (), exclude: tuple[str, ...] = ()) -> Discovered:
    """What a search of /archive found."""
    waiting = tuple(Unsettled(one, "still being written: changed 3 s ago") for one in unsettled)
    return Discovered(sources, waiting, (SourceSet("/archive", "/archive", "/archive/"),), PathFilter(exclude=exclude))


def planned(
    found: list[Source], records: list[VideoRecord], failures: list[FailureRecord], retry: bool = False
) -> tuple[dict[str, str], list[Task]]:
    plan = make_plan(seen(*found), Known(records, failures, MINE.features), retry)
    return {Path(result.uri).stem: result.status for result in plan.settled}, list(plan.tasks)


def test_same_size_and_time_is_unchanged() -> None:
    assert planned([source("a")], [record(source("a"))], []) == ({"a": "unchanged"}, [])


@pytest.mark.parametrize("spelling", ["/archive/deep/../a.mp4", "//archive/a.mp4", "file:///archive/./a.mp4"])
def test_what_was_recorded_under_another_spelling_of_its_path_keeps_it(spelling: str) -> None:
    before = record(dataclasses.replace(source("a"), uri=spelling))
    assert planned([source("a")], [before], []) == ({"a": "unchanged"}, [])
    now = dataclasses.replace(before.source, size=101)
    assert planned([source("a", size=101)], [before], []) == ({}, [Task(now, None, before, "changed")])
    assert planned([source("a")], [], [failure(before.source)]) == ({"a": "failed-before"}, [])
    assert planned([], [before], []) == ({"a": "gone"}, [])


def test_a_file_that_is_found_by_another_path_is_not_gone(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "again").symlink_to(".")
    known = Source(f"{tmp_path}/again/a.mp4", 0, "")
    places = SourceSet(str(tmp_path), str(tmp_path), f"{tmp_path}/")
    discovered = Discovered((), (), (places,), PathFilter())
    assert discovered.covers(known.uri)
    assert make_plan(discovered, Known([record(known)], [], MINE.features)).settled == ()


@pytest.mark.parametrize("now", [source("a", size=101), source("a", modified="2")])
def test_another_size_or_time_is_to_be_read_again(now: Source) -> None:
    before = record(source("a"))
    assert planned([now], [before], []) == ({}, [Task(now, None, before, "changed")])


def test_the_same_file_under_another_model_has_a_known_content() -> None:
    other = record(source("a"), OTHER)
    assert planned([source("a")], [other], []) == ({}, [Task(source("a"), known=other, why="other model")])
    assert planned([source("a", size=5)], [other], [])[1] == [Task(source("a", size=5), why="other model")]


def test_what_failed_is_left_out_while_it_is_the_same() -> None:
    known = [failure(source("a"))]
    assert planned([source("a")], [], known) == ({"a": "failed-before"}, [])
    assert planned([source("a", size=5)], [], known)[1] == [Task(source("a", size=5), why="changed")]
    assert planned([source("a")], [], known, retry=True)[1] == [Task(source("a"), why="asked again")]


@pytest.mark.parametrize("stage", ["fetch", "memory", "crash", "timeout", "unexpected"])
def test_what_was_not_the_files_fault_is_tried_each_time(stage: str) -> None:
    assert planned([source("a")], [], [failure(source("a"), stage)])[1] == [Task(source("a"), why="tried again")]


@pytest.mark.parametrize("stage", ["decode", "encode"])
def test_what_was_the_files_fault_is_left_out_for_good(stage: str) -> None:
    assert due_again(stage, 1, 0.0) == math.inf


@pytest.mark.parametrize(("attempts", "nights"), [(1, 0), (3, 0), (4, 2), (5, 4), (6, 8), (7, 8), (5000, 8)])
def test_what_fails_again_and_again_is_tried_in_fewer_nights(attempts: int, nights: int) -> None:
    assert due_again("crash", attempts, 0.0) == (nights * 86400 - 43200 if nights else 0)


def test_what_waits_for_a_later_night_is_told_from_what_is_left_out() -> None:
    waits = dataclasses.replace(failure(source("a"), "crash"), attempts=5, failed_at=time.time())
    plan = make_plan(seen(source("a")), Known([], [waits], MINE.features))
    assert [(result.status, result.tried_again) for result in plan.settled] == [("failed-before", True)]
    assert summarize(plan.settled, 1.0).tried_again == 1
    assert planned([source("a")], [], [waits], retry=True)[1]


def test_only_what_was_asked_for_can_be_gone() -> None:
    elsewhere = dataclasses.replace(source("c"), uri="/elsewhere/c.mp4")
    records = [record(source("a")), record(source("b")), record(elsewhere), record(source("d"), OTHER)]
    assert planned([source("a")], records, [])[0] == {"a": "unchanged", "b": "gone"}


def test_what_is_excluded_is_not_gone() -> None:
    records = [record(source("raw/a")), record(source("b"))]
    plan = make_plan(seen(exclude=("raw",)), Known(records, [], MINE.features))
    assert [(result.uri, result.status) for result in plan.settled] == [("/archive/b.mp4", "gone")]


def test_a_file_that_is_being_written_is_neither_a_task_nor_gone() -> None:
    records = [record(source("a", size=1)), record(source("same"))]
    plan = make_plan(seen(unsettled=(source("a"), source("same"))), Known(records, [], MINE.features))
    assert [(Path(one.uri).stem, one.status, one.reason) for one in plan.settled] == [
        ("a", "pending", "still being written: changed 3 s ago"),
        ("same", "unchanged", None),
    ]
    assert (plan.tasks, plan.waiting) == ((), ("/archive/a.mp4",))


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.lists(st.sampled_from("abcdefghxyz"), unique=True))
def test_what_was_left_goes_first_then_the_rest_by_name(found: list[str], left: list[str]) -> None:
    pending = [source(name).uri for name in left]
    plan = make_plan(seen(*map(source, found)), Known([], [], MINE.features, pending))
    order = [Path(task.source.uri).stem for task in plan.tasks]
    assert order == [name for name in left if name in found] + sorted(set(found) - set(left))


def test_what_was_left_elsewhere_still_waits_and_what_is_there_no_more_does_not() -> None:
    pending = ["/elsewhere/e.mp4", source("a").uri, source("deleted").uri, source("raw/x").uri]
    plan = make_plan(seen(source("a"), exclude=("raw",)), Known([], [], MINE.features, pending))
    assert plan.waiting == ("/elsewhere/e.mp4", source("raw/x").uri)


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
    """An hour of 1080p: 1,024 frames in 128 segments, 65,536 visual tokens (1.1 GB in bfloat16 at 16 kB each)."""
    facts = dataclasses.replace(FACTS, duration_s=3600.0)
    known = dataclasses.replace(record(source("a"), OTHER), facts=facts)
    found = estimate([Task(source("a"), known)], PAPER, FrameGeometry(), ModelCost(16_384.0, 1e-3))
    assert (found.videos, found.probed, found.segments) == (1, 1, 128)
    assert found.video_hours == pytest.approx(1.0)
    assert found.bytes == pytest.approx(65_536 * 16_384, rel=0.05)
    assert found.seconds == pytest.approx(65.5, rel=0.01)  # nothing to decode


def test_what_is_not_probed_is_taken_to_be_alike() -> None:
    far = [dataclasses.replace(source("x", size=int(TYPICAL_BYTES_PER_S * 600)), uri="s3://bucket/x.mp4")] * 3
    found = estimate([Task(one) for one in far], NAMED_SPECS["dense"], FrameGeometry(), ModelCost(1.0))
    assert (found.videos, found.probed, found.seconds) == (3, 0, None)
    assert found.video_hours == pytest.approx(0.5)
    assert found.segments == 3 * 150
    assert found.basis == ("read for this: 0 files; taken to be 1080p of 5 Mb/s, by their size: 3 videos (3 on S3)")


def test_files_on_s3_are_judged_by_those_that_can_be_read(tmp_path: Path) -> None:
    video = small_video(tmp_path / "a.mp4", seconds=6)
    size = video.stat().st_size
    near = Task(Source(str(video), size, "1"))
    far = [Task(Source(f"s3://bucket/{number}.mp4", size * 2, "1")) for number in range(20)]
    found = estimate([near, *far], PAPER, FrameGeometry(), ModelCost(1.0))
    assert (found.probed, found.remote) == (1, 20)
    assert found.video_hours == pytest.approx((6 + 20 * 12) / 3600, rel=0.02)
    assert found.basis == ("read for this: 1 file; taken to be alike, by their size: 20 other videos (20 on S3)")
    assert estimate([near], PAPER, FrameGeometry(), ModelCost(1.0)).basis == ""


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
    check_space(found, found.bytes + RESERVE_BYTES, "/library")
    with pytest.raises(NoSpace, match=r"GB are needed at /library for 1 video, .* are free"):
        check_space(found, found.bytes + RESERVE_BYTES - 1, "/library")


def a_minute_ago() -> str:
    return f"{datetime.now().astimezone() - timedelta(minutes=1):%H:%M}"


def test_what_the_time_did_not_allow_is_pending_and_done_next_time(tmp_path: Path) -> None:
    video, library = small_video(tmp_path / "talk.mp4"), tmp_path / "library"
    request = IndexRequest(sources=[str(video)], library=str(library), until=a_minute_ago())
    report = IndexRun(request, Reporter()).run()
    assert [result.status for result in report.results] == ["pending"]
    assert (report.summary.counts["pending"], report.summary.failed_now) == (1, False)
    assert contents(library)["failures"] == set()
    assert open_library(str(library)).pending() == [str(video)]
    assert [line["status"] for line in index(library, video)] == ["indexed"]
    assert open_library(str(library)).pending() == []


def test_a_run_that_is_over_before_it_begins_starts_no_ray(tmp_path: Path) -> None:
    """Nor would it load a model: no cluster answers at this address, and nobody asks."""
    video, library = small_video(tmp_path / "talk.mp4"), tmp_path / "library"
    request = IndexRequest(sources=[str(video)], library=str(library), until=a_minute_ago(), ray="127.0.0.1:1")
    assert [result.status for result in IndexRun(request, Reporter()).run().results] == ["pending"]
