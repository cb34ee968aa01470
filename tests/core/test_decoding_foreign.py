"""Files as other programs make them: what does not concern the pictures never refuses a good file."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from tempo_core.decoding import probe, read_segments
from tempo_core.decoding.child import Child, Deadline
from tempo_core.decoding.reasons import decoding_reason
from tempo_core.spec import PAPER, FrameGeometry
from tests.support.videos import damage_packets, frames_shown, make_video, numbered_picture, retimed, run_ffmpeg

SMALL = (96, 64)


def test_side_data_of_an_unknown_kind_is_passed_over(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    for number in range(4):
        picture = Image.new("RGB", SMALL, (60 * number, 0, 0))
        picture.save(tmp_path / f"{number}.jpg", exif=exif)
    path = tmp_path / "camera.mov"
    run_ffmpeg("-framerate", "4", "-i", str(tmp_path / "%d.jpg"), "-c", "copy", str(path))
    info = probe(path)
    assert (info.frame_count, info.codec) == (4, "mjpeg") and len(frames_shown(path, info=info)) == 4


@pytest.mark.parametrize("suffix", ["avi", "mkv", "mp4"])
def test_titles_and_chapters_of_any_encoding_are_passed_over(tmp_path: Path, suffix: str) -> None:
    notes = tmp_path / "notes"
    notes.write_bytes(b";FFMETADATA1\ntitle=QQQQ\nlocation=QQQQ\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=QQQQ\n")
    made = make_video(tmp_path / f"made.{suffix}", size=SMALL, codec="mpeg4")
    path = tmp_path / f"titled.{suffix}"
    run_ffmpeg("-i", str(made), "-f", "ffmetadata", "-i", str(notes), "-map_metadata", "1", "-c", "copy", str(path))
    content = path.read_bytes()
    assert b"QQQQ" in content
    path.write_bytes(content.replace(b"QQQQ", b"\xe9\xe8\xff\xe4"))
    assert [number for _, number in frames_shown(path)] == [0, 12, 25, 37]


def test_a_complaint_is_the_error_that_ended_it_not_the_first_message() -> None:
    script = "import sys; print('a remark', file=sys.stderr, flush=True); raise MemoryError('a table of 8 GB')"
    with Child(["python3", "-c", script], Deadline(60, 60), "the program") as child:
        assert list(iter(child.read, b"")) == [] and child.finish() == 1
        assert child.complaint() == "MemoryError: a table of 8 GB"


def test_pictures_are_cropped_as_the_container_says(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", size=SMALL, frames=5)
    content = path.read_bytes()
    interlacing_and_colour = bytes.fromhex("9a8102 55b08455b98101")
    assert interlacing_and_colour in content
    left_and_top = bytes.fromhex("54cc8120 54bb8110 ec80")  # 32 pixels and 16
    path.write_bytes(content.replace(interlacing_and_colour, left_and_top))
    with read_segments(path, probe(path), PAPER, FrameGeometry()) as reader:
        assert (reader.info.width, reader.info.height) == (64, 48)
        first = next(reader).pixels[0]
    assert first.shape[1] / first.shape[0] == pytest.approx(64 / 48, abs=0.1)


def test_of_several_tracks_the_one_that_moves_is_read(tmp_path: Path) -> None:
    path = tmp_path / "motion-photo.mov"
    run_ffmpeg(
        "-f", "lavfi", "-i", "color=red:size=320x240:rate=1:duration=2", "-f", "lavfi", "-i",
        numbered_picture(50, SMALL), "-map", "0", "-map", "1", "-c:v", "libx264",
        "-disposition:v:0", "default", "-disposition:v:1", "0", str(path),
    )  # fmt: skip
    info = probe(path)
    assert (info.stream_index, info.frame_count) == (1, 50)
    assert [number for _, number in frames_shown(path, info=info)] == [0, 12, 25, 37]


def test_frames_before_the_first_marked_key_frame_are_read_where_they_decode(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", size=SMALL, options=("-g", "25", "-sc_threshold", "0", "-bf", "2"))
    content = path.read_bytes()
    marks = b"stss" + struct.pack(">IIII", 0, 2, 1, 26)
    assert marks in content
    path.write_bytes(content.replace(marks, b"stss" + struct.pack(">IIII", 0, 2, 26, 26)))
    info = probe(path)
    assert (info.frame_count, info.warnings) == (50, ())
    assert [number for _, number in frames_shown(path, info=info)] == [0, 12, 25, 37]


@pytest.mark.parametrize("length_ms", [5_000, 100_000])
def test_the_length_of_a_last_picture_that_is_damaged_does_not_count(tmp_path: Path, length_ms: int) -> None:
    made = make_video(tmp_path / "made.mov", codec="mjpeg", size=SMALL, rate="2", seconds=4, pix_fmt="yuvj420p")
    times = [500 * k for k in range(8)]
    path = retimed(tmp_path / "video.mov", made, times, last_ms=length_ms)
    assert probe(path).duration == Fraction(3500 + length_ms, 1000)
    damage_packets(path, [7])
    info = probe(path)
    assert (info.frame_count, info.duration) == (7, Fraction(7, 2))
    assert [number for _, number in frames_shown(path, info=info)] == list(range(7))


def test_a_kind_that_ffmpeg_lacks_is_named_with_a_way_out() -> None:
    reason = decoding_reason("Not yet implemented in FFmpeg, patches welcome", "hevc")
    assert reason.startswith("this ffmpeg lacks a part of hevc; a newer one may have it")
