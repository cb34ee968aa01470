"""The live view of a run: what it says, how it fits, and where it is drawn."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from flows.snapshot import Snapshot, VideoProgress
from flows.terminal.progress import run_lines
from flows.text import ASCII, BLOCKS
from tests.support import ROOT

HALFWAY = Snapshot(
    elapsed_s=1800.0,
    video_count=12,
    settled=3,
    failed=1,
    segment_count=88,
    video_s=9000.0,
    state_bytes=10**9,
    source_bytes=10**9,
    all_source_bytes=3 * 10**9,
    waiting=7,
    queued_segment_count=4,
    encoder_count=1,
    encoder_share=0.834,
    under_way=(VideoProgress("s3://bucket/talks/opening.mp4", 512, 1024, 8), VideoProgress("/v/late.mkv", 0, 0, 8)),
)
BEGUN = replace(
    HALFWAY,
    elapsed_s=0.2,
    settled=0,
    failed=0,
    segment_count=0,
    video_s=0.0,
    source_bytes=0,
    encoder_share=0.0,
    under_way=(),
)
UNDER_WAY = st.builds(
    VideoProgress, st.text(max_size=60), st.integers(0, 500), st.integers(500, 4000), st.just(8), st.just(0.0)
)


def test_a_run_is_a_line_of_figures_and_a_bar_per_video_under_way() -> None:
    assert run_lines(HALFWAY, 120, BLOCKS) == [
        "3/12 videos, 1 failed, 60 min left, 5.0 video-hours/h, 88 segments, encoder 83% busy, 7 videos waiting",
        "opening.mp4                    █████░░░░░ 512/1024 frames, 64/128 segments",
        "late.mkv                       ░░░░░░░░░░ reading",
    ]


def test_what_is_not_known_yet_is_not_said() -> None:
    assert run_lines(BEGUN, 150, BLOCKS) == [
        "0/12 videos, 0 segments, encoder 0% busy, 7 videos waiting, 4 segments queued"
    ]


def test_several_encoders_are_counted() -> None:
    assert "2 encoders 83% busy" in run_lines(replace(HALFWAY, encoder_count=2), 150, BLOCKS)[0]


def test_a_narrow_terminal_keeps_what_is_most_wanted() -> None:
    assert run_lines(HALFWAY, 40, ASCII) == [
        "3/12 videos, 1 failed, 60 min left",
        "opening.m~ #####..... 512/1024 frames, 6",
        "late.mkv   .......... reading",
    ]


def test_of_many_videos_under_way_the_rest_is_counted() -> None:
    many = tuple(VideoProgress(f"/v/{number}.mp4", 8, 80, 8) for number in range(11))
    lines = run_lines(replace(HALFWAY, under_way=many), 100, BLOCKS, most_bars=8)
    assert len(lines) == 10
    assert lines[1].startswith("0.mp4 ")
    assert lines[-1] == "and 3 more"


@given(st.lists(UNDER_WAY, max_size=12), st.integers(1, 120), st.integers(0, 9))
def test_no_line_is_wider_than_the_terminal_whatever_the_names(
    videos: list[VideoProgress], width: int, most: int
) -> None:
    lines = run_lines(replace(HALFWAY, under_way=tuple(videos)), width, BLOCKS, most)
    assert [line for line in lines if cell_len(line) > width or "\n" in line] == []
    assert len(lines) <= most + 2


DRAWN = """
import sys
from dataclasses import replace
from flows.terminal.progress import LiveView
from tests.flows.test_progress import HALFWAY
with LiveView(readable=sys.argv[1] == "readable") as view:
    view.update(HALFWAY)
    view.page.line("indexed  a.mp4")
    view.update(replace(HALFWAY, settled=4))
"""


def on_a_terminal(readable: str, **environment: str) -> str:
    """What a terminal of 24 lines of 90 columns gets, with output and errors on it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 90))
    process = subprocess.Popen(
        [sys.executable, "-c", DRAWN, readable],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment},
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:  # a terminal that is gone reads as an error on Linux
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0, written
    return written.decode()


def test_on_a_terminal_results_stand_above_a_view_that_goes_at_the_end() -> None:
    written = on_a_terminal("readable")
    first, result, second = (written.index(text) for text in ("3/12 videos", "indexed  a.mp4", "4/12 videos"))
    assert first < result < second
    assert "█████░░░░░ 512/1024 frames" in written
    assert written.rindex("\x1b[2K") > second  # the last thing done is to erase it


def test_a_terminal_without_blocks_gets_ascii() -> None:
    written = on_a_terminal("readable", PYTHONIOENCODING="ascii")
    assert "#####..... 512/1024 frames" in written


def test_json_on_the_same_terminal_is_not_drawn_over() -> None:
    assert on_a_terminal("json") == "indexed  a.mp4\r\n"


def test_in_a_pipe_nothing_is_drawn() -> None:
    command, environment = [sys.executable, "-c", DRAWN, "readable"], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("indexed  a.mp4\n", "")
