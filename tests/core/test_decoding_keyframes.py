"""Sampling at key frames: each picture is the one of its time, whatever the file's key frames and marks are."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tempo_core.decoding import VideoInfo, probe, read_segments
from tempo_core.decoding.child import Deadline
from tempo_core.decoding.due_frames import due_frames
from tempo_core.decoding.graph import Pass, Source, command
from tempo_core.decoding.passes import Passes, stretches
from tempo_core.spec import NAMED_SPECS, FrameGeometry, IndexSpec
from tests.support.videos import ROUNDING_S, frame_number, make_video

SMALL = (96, 64)
KEYFRAMES = NAMED_SPECS["keyframes"]
LEFT_OUT = "the decoder leaves out a key frame at {:.1f} s, so all frames were decoded"
Samples = list[tuple[float, int]]


def gop(frames: int, *more: str) -> tuple[str, ...]:
    return ("-g", str(frames), "-keyint_min", str(frames), "-sc_threshold", "0", *more)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Pass]:
    """Every run of ffmpeg over a video, in the order of their beginning."""
    runs: list[Pass] = []

    def recorded(ffmpeg: str, source: Source, run: Pass) -> list[str]:
        runs.append(run)
        return command(ffmpeg, source, run)

    monkeypatch.setattr("tempo_core.decoding.passes.command", recorded)
    return runs


def read_samples(
    path: Path, spec: IndexSpec = KEYFRAMES, warnings: tuple[str, ...] | None = (), info: VideoInfo | None = None
) -> Samples:
    """For each sample its time and the number of its picture; the sampling and the frames agree on the times."""
    info = info or probe(path)
    with read_segments(path, info, spec, FrameGeometry()) as reader:
        pairs = [pair for segment in reader for pair in zip(segment.times_s, segment.pixels, strict=True)]
        assert [time_s for time_s, _ in pairs] == [float(reader.sampling.time_s(k)) for k in range(len(pairs))]
    assert (reader.missing_samples, len(pairs)) == (0, reader.sampling.count)
    assert warnings in (None, reader.warnings)
    return [(time_s, frame_number(pixels)) for time_s, pixels in pairs]


def assert_times_are_true(samples: Samples, frame_times_s: list[float]) -> None:
    """Each sample's time is the one at which its picture is shown, by construction of the file."""
    assert all(abs(time_s - frame_times_s[number]) <= ROUNDING_S for time_s, number in samples), samples


def numbers(samples: Samples) -> list[int]:
    return [number for _, number in samples]


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx264", "mp4", ()),
        ("libx264", "mkv", ("-bf", "3")),
        ("libx264", "ts", ()),
        ("libx265", "mp4", ()),
        ("libx265", "mkv", ("-x265-params", "open-gop=1:log-level=error")),
        ("libvpx-vp9", "webm", ()),
        ("libsvtav1", "mp4", ()),
        ("mpeg2video", "ts", ("-bf", "2")),
        ("mpeg2video", "mpg", ("-bf", "2")),
        ("mpeg4", "mp4", ("-bf", "2")),
    ],
)
def test_only_key_frames_are_decoded_where_there_are_enough(
    tmp_path: Path, passes: list[Pass], codec: str, suffix: str, options: tuple[str, ...]
) -> None:
    options = (*gop(20), *options)
    path = make_video(tmp_path / f"video.{suffix}", seconds=12, rate="10", size=SMALL, codec=codec, options=options)
    info = probe(path)
    samples = read_samples(path, info=info)
    assert numbers(samples) == np.flatnonzero(info.keys).tolist() and 6 <= len(samples) <= 8
    assert_times_are_true(samples, [k / 10 for k in range(120)])
    assert [run.keys_only for run in passes] == [True]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_where_the_decoder_leaves_out_key_frames_all_are_decoded(
    tmp_path: Path, passes: list[Pass], suffix: str
) -> None:
    path = make_video(
        tmp_path / f"open.{suffix}", seconds=12, rate="10", size=SMALL, options=gop(20, "-x264-params", "open-gop=1")
    )
    assert_times_are_true(read_samples(path, warnings=(LEFT_OUT.format(0.0),)), [k / 10 for k in range(120)])
    assert [run.keys_only for run in passes] == [True, False]


def test_a_key_frame_that_is_left_out_late_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No frame is due until then: 0.75 s at four times real time, where 0.3 s without a frame are a hang."""
    path = make_video(tmp_path / "video.mp4", seconds=4, rate="10", size=SMALL, options=gop(20))
    info = probe(path)

    def paced(ffmpeg: str, source: Source, run: Pass) -> list[str]:
        program, *arguments = command(ffmpeg, source, run)
        return [program, "-readrate", "4", *arguments]

    monkeypatch.setattr("tempo_core.decoding.passes.command", paced)
    with Passes(Source(str(path), info, SMALL), Deadline(120.0, 0.3)) as opened:
        assert [frame.tick for frame in opened._in_whole_video(info.ticks[-5:])] == info.ticks[-5:].tolist()


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "webm"])
def test_what_lies_between_sparse_key_frames_is_sought(tmp_path: Path, passes: list[Pass], suffix: str) -> None:
    """Key frames each 3 s, but one gap of 18 s and 28 s at the end: one and two more frames are decoded."""
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    times = [*range(0, 30, 3), *range(45, 90, 3)]
    forced = ",".join(str(time) for time in times)
    options = ("-g", "1000", "-keyint_min", "1", "-sc_threshold", "0", "-force_key_frames", forced)
    path = make_video(tmp_path / f"video.{suffix}", seconds=115, rate="8", size=SMALL, codec=codec, options=options)
    info = probe(path)
    samples = read_samples(path, replace(KEYFRAMES, frames_per_second=1), info=info)
    assert_times_are_true(samples, [k / 8 for k in range(920)])
    between = [number / 8 for number in numbers(samples) if not info.keys[number]]
    assert between == pytest.approx([36.0, 96.3, 105.7], abs=0.13)
    assert sorted(info.keys[numbers(samples)]).count(True) == len(times)
    assert [run.begin is not None for run in passes] == [False, True, True] and passes[0].keys_only


def test_a_video_of_few_key_frames_is_decoded_once_as_a_whole(tmp_path: Path, passes: list[Pass]) -> None:
    path = make_video(tmp_path / "video.mp4", seconds=60, rate="10", size=SMALL, options=gop(400))
    samples = read_samples(path)
    assert_times_are_true(samples, [k / 10 for k in range(600)])
    assert numbers(samples) == [0, 100, 200, 300, 400, 500]
    assert passes == [Pass(select=passes[0].select)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_variable_frame_rate_keeps_the_times_of_its_key_frames(tmp_path: Path, suffix: str) -> None:
    path = make_video(tmp_path / f"video.{suffix}", frames=100, times="0.003*N*N+0.01*N", size=SMALL, options=gop(10))
    samples, times = read_samples(path), [0.003 * n * n + 0.01 * n for n in range(100)]
    assert_times_are_true(samples, times)
    assert all(after - before >= 0.5 - ROUNDING_S for (before, _), (after, _) in pairwise(samples))


def test_times_count_from_the_first_frame_wherever_the_file_begins(tmp_path: Path) -> None:
    options = gop(20, "-output_ts_offset", "5000")
    path = make_video(tmp_path / "recording.ts", seconds=30, rate="10", size=SMALL, options=options)
    spec = replace(KEYFRAMES, max_gap_s=1.5, frames_per_second=1)
    assert_times_are_true(read_samples(path, spec), [k / 10 for k in range(300)])


def test_key_frames_closer_than_the_rate_are_thinned(tmp_path: Path, passes: list[Pass]) -> None:
    path = make_video(tmp_path / "video.mp4", seconds=8, rate="10", size=SMALL, options=gop(2))
    samples = read_samples(path)
    assert numbers(samples) == list(range(0, 80, 6))  # the first key frame at least half a second after the one before
    assert [run.keys_only for run in passes] == [True]


def test_a_cap_that_breaks_the_longest_gap_is_reported(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", seconds=60, rate="2", size=SMALL, options=gop(2))
    warning = "frames lie up to 16.0 s apart: the index spec takes at most 4 of a video"
    samples = read_samples(path, replace(KEYFRAMES, max_frames=4), (warning,))
    assert numbers(samples) == [0, 32, 64, 96]


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("avi", "mpeg4", gop(20, "-bf", "2")),  # no presentation times
        ("mkv", "mjpeg", ()),  # nothing but key frames
        ("ts", "mpeg2video", gop(20, "-flags", "+ildct+ilme")),  # interlaced
    ],
)
def test_where_marks_help_nothing_everything_is_decoded(
    tmp_path: Path, passes: list[Pass], suffix: str, codec: str, options: tuple[str, ...]
) -> None:
    path = make_video(tmp_path / f"video.{suffix}", seconds=12, rate="25", size=SMALL, codec=codec, options=options)
    assert_times_are_true(read_samples(path), [k / 25 for k in range(300)])
    assert [run.keys_only for run in passes] == [False]


def with_key_marks(path: Path, edit: str) -> Path:
    """The same MP4 with other marks of key frames: "all" frames, or a "wrong" second one."""
    data = bytearray(path.read_bytes())
    begin = data.rindex(b"stss")  # version and count, then the numbers of the key frames, 4 bytes each
    if edit == "all":
        data[begin : begin + 4] = b"free"
    else:
        data[begin + 19] += 3
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("marks", "first", "runs"), [("all", [0, 1, 2], [False]), ("wrong", [0, 23, 40], [True, False])]
)
def test_a_file_whose_marks_lie_still_shows_the_frames_of_its_times(
    tmp_path: Path, passes: list[Pass], marks: str, first: list[int], runs: list[bool]
) -> None:
    made = make_video(tmp_path / "video.mp4", seconds=12, rate="10", size=SMALL, codec="mpeg4", options=gop(20))
    path = with_key_marks(made, marks)
    assert np.flatnonzero(probe(path).keys)[:3].tolist() == first
    warnings = (LEFT_OUT.format(2.3),) if marks == "wrong" else ()
    assert_times_are_true(read_samples(path, warnings=warnings), [k / 10 for k in range(120)])
    assert [run.keys_only for run in passes] == runs


def test_a_file_that_marks_no_key_frame_is_decoded_as_a_whole(tmp_path: Path) -> None:
    info = probe(make_video(tmp_path / "video.mp4", seconds=12, rate="10", size=SMALL, options=gop(20)))
    unmarked = replace(info, keys=np.zeros_like(info.keys))
    sampling = unmarked.sampling(KEYFRAMES)
    assert [float(time_s) for time_s in sampling.times_s or ()] == [0, 3, 6, 9]
    assert stretches(unmarked, due_frames(unmarked, sampling)) is None
    assert stretches(info, due_frames(info, info.sampling(KEYFRAMES))) == []


def test_a_file_that_begins_in_mid_group_is_taken_from_its_first_key_frame(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.ts", seconds=30, rate="10", size=SMALL, options=gop(50, "-bf", "0"))
    data = whole.read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[len(data) // 188 // 30 * 188 :])
    info = probe(cut)
    samples = read_samples(cut, warnings=None, info=info)  # the decoder complains of the beginning
    assert info.keys[0] and samples[0][0] == 0
    assert_times_are_true(samples, [(k - samples[0][1]) / 10 for k in range(300)])
