"""Files as other programs make them: what does not concern the pictures never refuses a good file."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tempo_core.decoding import probe
from tempo_core.decoding.child import Child, Deadline
from tests.support.videos import frames_shown, make_video, run_ffmpeg

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
