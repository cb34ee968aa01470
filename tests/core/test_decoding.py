"""Decoding of sound files: whatever the codec and container, samples show the frames of their times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tempo_core.decoding import find_ffmpeg, probe, read_segments
from tempo_core.errors import TempoError
from tempo_core.spec import NAMED_SPECS, PAPER, FrameGeometry, IndexSpec
from tests.support.videos import assert_shows_its_times, frames_shown, make_video

REORDERED = ("-bf", "2")
FORMATS = {
    "libx264": ("mp4", "mkv", "mov", "avi", "ts"),
    "libx265": ("mp4", "mkv", "ts"),
    "libvpx-vp9": ("webm", "mkv", "mp4"),
    "libsvtav1": ("mp4", "webm"),
    "libaom-av1": ("mkv",),
    "mpeg4": ("avi", "mp4", "mkv"),
    "mpeg2video": ("ts", "mpg", "mkv"),
}


@pytest.mark.parametrize(("codec", "suffix"), [(codec, suffix) for codec in FORMATS for suffix in FORMATS[codec]])
def test_every_codec_in_every_container_shows_the_frames_of_its_times(tmp_path: Path, codec: str, suffix: str) -> None:
    options = REORDERED if codec.startswith("mpeg") else ()
    path = make_video(tmp_path / f"video.{suffix}", codec=codec, size=(192, 108), options=options)
    info = assert_shows_its_times(path, [k / 25 for k in range(50)])
    assert info.frame_count == 50 and abs(info.duration - 2) <= 0.002 and info.start == 0
    assert (info.width, info.height, info.warnings) == (192, 108, ())


@pytest.mark.parametrize(
    ("rate", "suffix"), [("24000/1001", "mp4"), ("24000/1001", "mkv"), ("60", "ts"), ("60", "mp4")]
)
def test_frame_rates_that_divide_nothing_evenly_keep_their_times(tmp_path: Path, rate: str, suffix: str) -> None:
    path = make_video(tmp_path / f"video.{suffix}", rate=rate, seconds=3, size=(96, 64))
    assert_shows_its_times(path, [float(k / Fraction(rate)) for k in range(round(3 * Fraction(rate)))])


def test_a_duration_is_exact_where_the_container_is(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", rate="24000/1001", frames=48, size=(96, 64))
    assert probe(path).duration == Fraction(48 * 1001, 24000)


def test_segments_come_in_order_with_the_frames_that_the_spec_says(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", seconds=11, rate="10", size=(64, 64))
    reader = read_segments(path, probe(path), IndexSpec(frames_per_second=1.0), FrameGeometry())
    segments = list(reader)
    assert [(segment.index, segment.pixels.shape) for segment in segments] == [
        (0, (8, 384, 384, 3)),
        (1, (3, 384, 384, 3)),
    ]
    assert all(segment.pixels.dtype == np.uint8 and segment.pixels.flags.c_contiguous for segment in segments)
    assert (reader.missing_samples, reader.warnings) == (0, ())


def test_reading_twice_gives_the_same_pixels(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", size=(160, 90))
    once, again = (
        np.concatenate([segment.pixels for segment in read_segments(path, probe(path), PAPER, FrameGeometry())])
        for _ in range(2)
    )
    assert np.array_equal(once, again)


def test_frames_of_their_final_size_are_taken_exactly(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", codec="ffv1", pix_fmt="gbrp", size=(512, 256), frames=3)
    segment = next(read_segments(path, probe(path), PAPER, FrameGeometry()))
    assert set(np.unique(segment.pixels)) == {0, 255}  # pure black and white: nothing was resampled or rounded


def test_a_video_of_one_frame_is_one_sample(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv", "ts", "avi"):
        path = make_video(tmp_path / f"video.{suffix}", frames=1, size=(64, 64))
        assert frames_shown(path) == [(0.0, 0)]


def test_a_video_of_two_frames_repeats_them_to_four_samples(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", frames=2, size=(64, 64))
    assert frames_shown(path) == [(0.0, 0), (0.0, 0), (0.04, 1), (0.04, 1)]


def test_a_video_under_a_second_has_the_least_number_of_samples(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.webm", codec="libvpx-vp9", seconds=0.4, size=(64, 64))
    assert frames_shown(path) == [(0.0, 0), (pytest.approx(0.08), 2), (0.2, 5), (pytest.approx(0.28), 7)]


def test_dense_sampling_has_no_cap(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", seconds=20, rate="5", size=(64, 64))
    spec = IndexSpec(max_frames=8)
    assert (len(frames_shown(path, spec)), len(frames_shown(path, NAMED_SPECS["dense"]))) == (8, 40)


def test_ffmpeg_is_taken_from_the_environment_variable_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = tmp_path / "my-ffmpeg"
    named.symlink_to(find_ffmpeg())
    monkeypatch.setenv("TEMPO_FFMPEG", str(named))
    assert find_ffmpeg() == str(named)


def test_ffmpeg_is_next_taken_from_the_path_then_from_the_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TEMPO_FFMPEG", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    from_wheel = find_ffmpeg()
    assert "imageio_ffmpeg" in from_wheel
    (tmp_path / "ffmpeg").symlink_to(from_wheel)
    assert find_ffmpeg() == str(tmp_path / "ffmpeg")


def test_a_wrong_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPO_FFMPEG", "/nowhere/ffmpeg")
    with pytest.raises(TempoError, match="TEMPO_FFMPEG is '/nowhere/ffmpeg'"):
        find_ffmpeg()
