"""Times are true: variable rates, offsets, edits, reordering, and timelines that break."""

from __future__ import annotations

from pathlib import Path

import pytest

from tempo_core.decoding import probe
from tempo_core.spec import IndexSpec
from tests.support.videos import assert_shows_its_times, frames_shown, make_video, numbered_picture, run_ffmpeg

SMALL = (96, 64)
GROUPS = ("-g", "25", "-bf", "0", "-sc_threshold", "0")  # a key frame each second
SLOWING = "0.002*N*N+0.01*N"  # frames come 12 ms apart at first, 200 ms at the end


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "ts"])
def test_a_variable_frame_rate_shows_the_frames_of_its_times(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    path = make_video(tmp_path / f"video.{suffix}", frames=50, times=SLOWING, codec=codec, size=SMALL)
    assert_shows_its_times(path, [0.002 * n * n + 0.01 * n for n in range(50)])


def test_a_still_of_many_seconds_is_shown_at_all_of_its_samples(tmp_path: Path) -> None:
    path = make_video(tmp_path / "screen.mp4", frames=40, times="0.04*N+if(gte(N,20),10,0)", size=SMALL)
    times = [0.04 * n + (10 if n >= 20 else 0) for n in range(40)]
    info = assert_shows_its_times(path, times)
    assert sum(number == 19 for _, number in frames_shown(path, info=info)) >= 18  # two samples a second for 10 s


def test_a_slideshow_of_a_frame_in_five_seconds_keeps_its_times(tmp_path: Path) -> None:
    path = make_video(tmp_path / "slides.mkv", frames=4, rate="1/5", size=SMALL)
    assert_shows_its_times(path, [5.0 * n for n in range(4)])


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_slideshow_of_a_frame_a_minute_keeps_every_frame(tmp_path: Path, suffix: str) -> None:
    path = make_video(tmp_path / f"slides.{suffix}", frames=12, rate="1/60", size=SMALL, options=["-bf", "3"])
    info = assert_shows_its_times(path, [60.0 * n for n in range(12)], IndexSpec(frames_per_second=0.1))
    assert info.frame_count == 12 and info.warnings == ()


def test_more_samples_than_frames_repeat_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", frames=8, rate="4", size=SMALL)
    assert_shows_its_times(path, [n / 4 for n in range(8)], IndexSpec(frames_per_second=10))


def test_times_count_from_the_first_frame_wherever_the_file_begins(tmp_path: Path) -> None:
    path = make_video(tmp_path / "recording.ts", size=SMALL, options=["-output_ts_offset", "5000"])
    info = assert_shows_its_times(path, [n / 25 for n in range(50)])
    assert info.start == 0  # players begin at the first picture too


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pictures_that_begin_after_the_sound_start_late_on_the_players_clock(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"late.{suffix}"
    run_ffmpeg(
        "-f", "lavfi", "-i", "sine=duration=4", "-itsoffset", "1.5", "-f", "lavfi", "-i", numbered_picture(50, SMALL),
        "-c:v", "libx264", "-c:a", "aac", str(path),
    )  # fmt: skip
    info = assert_shows_its_times(path, [n / 25 for n in range(50)])
    assert float(info.start) == pytest.approx(1.5, abs=0.03)  # the sound's own encoder delay


def test_frames_that_an_edit_hides_are_not_shown(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", seconds=4, size=SMALL, options=["-g", "100"])
    run_ffmpeg("-ss", "1.2", "-i", str(whole), "-c", "copy", str(tmp_path / "cut.mp4"))
    assert assert_shows_its_times(tmp_path / "cut.mp4", [n / 25 for n in range(-30, 70)]).frame_count == 70


def test_frames_that_are_only_referred_to_are_not_counted(tmp_path: Path) -> None:
    path, log = tmp_path / "video.webm", str(tmp_path / "passes")
    coding = "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -arnr-maxframes 5 -b:v 60k -cpu-used 4".split()
    source = ["-f", "lavfi", "-i", numbered_picture(100, SMALL)]
    for number in ("1", "2"):
        run_ffmpeg(*source, *coding, "-pass", number, "-passlogfile", log, str(path))
    assert assert_shows_its_times(path, [n / 25 for n in range(100)]).frame_count == 100


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_timeline_that_restarts_runs_on(tmp_path: Path, codec: str) -> None:
    part = make_video(tmp_path / "part.ts", codec=codec, size=SMALL, options=["-bf", "2"]).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(part * 3)
    info = probe(path)
    assert info.frame_count == 150 and float(info.duration) == 6.0
    assert any("jumps: 2" in warning for warning in info.warnings)
    assert [number for _, number in frames_shown(path, info=info)] == [0, 12, 25, 37] * 3


def test_a_timeline_that_restarts_with_a_larger_picture_runs_on(tmp_path: Path) -> None:
    small = make_video(tmp_path / "small.ts", size=SMALL, options=["-bf", "2"]).read_bytes()
    large = make_video(tmp_path / "large.ts", size=(192, 128), options=["-bf", "2"]).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(small + large * 2)
    assert [number for _, number in frames_shown(path)] == [0, 12, 25, 37] * 3


def test_a_recording_that_starts_amid_a_group_of_pictures_starts_at_its_first_key_frame(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.ts", seconds=4, size=SMALL, options=GROUPS).read_bytes()
    path = tmp_path / "tuned-in.ts"
    path.write_bytes(whole[len(whole) // 10 // 188 * 188 :])
    info = probe(path)
    assert info.frame_count in (50, 75)
    assert any("left out" in warning for warning in info.warnings)
    first = 100 - info.frame_count
    assert [number for _, number in frames_shown(path, info=info)][:2] == [first, first + 12]
