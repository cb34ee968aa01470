"""The picture is the one that players show: upright, in its true shape and colours, from the right stream."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tempo_core.decoding import probe, read_segments
from tempo_core.decoding import reader as reader_module
from tempo_core.errors import VideoError
from tempo_core.spec import PAPER, FrameGeometry
from tempo_core.values import ByteArray
from tests.support.videos import frames_shown, make_video, numbered_picture, run_ffmpeg

CORNERS = "color=black:size=128x64:rate=25:duration=0.2,drawbox=x=0:y=0:w=32:h=32:color=white:t=fill,format=gray"


def first_frame(path: Path) -> ByteArray:
    with read_segments(path, probe(path), PAPER, FrameGeometry()) as reader:
        return next(reader).pixels[:1].reshape(reader.size[1], reader.size[0], 3)


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture whose top left corner is bright."""
    path = tmp_path_factory.mktemp("corners") / "plain.mp4"
    run_ffmpeg("-f", "lavfi", "-i", CORNERS, "-c:v", "libx264", "-qp", "0", str(path))
    return path


def bright_corner(pixels: ByteArray) -> tuple[str, str]:
    height, width, _ = pixels.shape
    rows, columns = np.nonzero(pixels.mean(axis=2) > 127)
    return ("top" if rows.mean() < height / 2 else "bottom", "left" if columns.mean() < width / 2 else "right")


@pytest.mark.parametrize(
    ("options", "size", "corner"),
    [
        ([], (128, 64), ("top", "left")),
        (["-display_rotation", "90"], (64, 128), ("bottom", "left")),  # ffmpeg turns counterclockwise
        (["-display_rotation", "180"], (128, 64), ("bottom", "right")),
        (["-display_rotation", "270"], (64, 128), ("top", "right")),
        (["-display_hflip"], (128, 64), ("top", "right")),
        (["-display_vflip"], (128, 64), ("bottom", "left")),
        (["-display_rotation", "90", "-display_hflip"], (64, 128), None),
        (["-display_rotation", "270", "-display_vflip"], (64, 128), None),
    ],
)
def test_a_picture_is_turned_upright_as_ffmpeg_itself_turns_it(
    tmp_path: Path, corners: Path, options: list[str], size: tuple[int, int], corner: tuple[str, str] | None
) -> None:
    turned, upright = tmp_path / "turned.mp4", tmp_path / "upright.png"
    run_ffmpeg(*options, "-i", str(corners), "-c", "copy", str(turned))
    run_ffmpeg("-i", str(turned), "-frames:v", "1", str(upright))
    info = probe(turned)
    assert (info.width, info.height) == size
    read_corner = bright_corner(first_frame(turned))
    assert read_corner == bright_corner(np.asarray(Image.open(upright).convert("RGB")))
    assert corner in (None, read_corner)


@pytest.mark.parametrize(
    ("size", "codec", "pix_fmt"),
    [
        ((2, 2), "ffv1", "gbrp"),
        ((16, 16), "libx264", "yuv420p"),
        ((33, 17), "libvpx-vp9", "yuv420p"),
        ((321, 181), "libx264", "yuv444p"),
        ((1366, 768), "libx264", "yuv420p"),
        ((96, 960), "libx264", "yuv420p"),
    ],
)
def test_odd_and_tiny_sizes_are_read(tmp_path: Path, size: tuple[int, int], codec: str, pix_fmt: str) -> None:
    path = make_video(tmp_path / "video.mkv", size=size, codec=codec, pix_fmt=pix_fmt, frames=4)
    info = probe(path)
    assert (info.width, info.height) == size
    pixels = first_frame(path)
    assert pixels.shape[0] % 32 == 0 and pixels.shape[1] % 32 == 0


def test_8k_is_read(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", size=(7680, 4320), frames=1, options=["-preset", "ultrafast"])
    assert frames_shown(path) == [(0.0, 0)]


def test_a_picture_too_elongated_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", size=(2050, 10), codec="ffv1", frames=2)
    with pytest.raises(VideoError, match="2050x10 is too elongated"):
        read_segments(path, probe(path), PAPER, FrameGeometry())


@pytest.mark.parametrize(
    ("aspect", "size"), [("16/15", (768, 576)), ("64/45", (1024, 576)), ("1/2", (720, 1152)), ("1/1000", (720, 576))]
)
def test_anamorphic_pixels_are_made_square(tmp_path: Path, aspect: str, size: tuple[int, int]) -> None:
    path = make_video(tmp_path / "video.mkv", size=(720, 576), frames=2, filters=f"setsar={aspect}")
    info = probe(path)
    assert (info.width, info.height) == size  # the last is no real shape, but damage, and is ignored


def test_10_bits_look_like_8(tmp_path: Path) -> None:
    ramp = ["-f", "lavfi", "-i", "color=black:size=512x256:duration=0.1:rate=25,format=gbrp,geq=r=X/2:g=X/2:b=X/2"]
    eight, ten = tmp_path / "8.mkv", tmp_path / "10.mkv"
    run_ffmpeg(*ramp, "-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv420p", str(eight))
    run_ffmpeg(*ramp, "-c:v", "libx265", "-x265-params", "lossless=1:log-level=error", "-pix_fmt", "yuv420p10le",
               str(ten))  # fmt: skip
    difference = np.abs(first_frame(eight).astype(int) - first_frame(ten).astype(int))
    assert difference.max() <= 2


def hdr_ramp(path: Path, transfer: str, size: str = "512x256") -> Path:
    """A grey ramp up to reference white (203 nits), mastered in HDR."""
    to_linear = "zscale=tin=bt709:pin=bt709:min=gbr:rin=full:t=linear:npl=203:p=bt2020:m=gbr,format=gbrpf32le"
    to_hdr = f"zscale=tin=linear:pin=bt2020:min=gbr:t={transfer}:p=bt2020:m=bt2020nc:r=tv:npl=203,format=yuv444p10le"
    tags = ["-color_trc", transfer, "-colorspace", "bt2020nc", "-color_primaries", "bt2020"]
    source = f"color=black:size={size}:duration=0.1:rate=25,format=gbrp,geq=r=X/2:g=X/2:b=X/2"
    run_ffmpeg("-f", "lavfi", "-i", source, "-vf", f"{to_linear},{to_hdr}", "-c:v", "libx265",
               "-x265-params", "log-level=error", *tags, str(path))  # fmt: skip
    return path


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_looks_like_the_picture_it_was_made_from(tmp_path: Path, transfer: str) -> None:
    row = first_frame(hdr_ramp(tmp_path / "hdr.mp4", transfer))[128].mean(axis=1)
    middle = row[np.array([64, 128, 256])]
    assert np.abs(middle - [32, 64, 128]).max() <= 4  # middle tones are kept
    assert 195 <= row[500] <= 255 and (np.diff(row[::16]) > 0).all()  # highlights are rolled off, not clipped


def test_hdr_of_odd_size_is_read(tmp_path: Path) -> None:
    assert first_frame(hdr_ramp(tmp_path / "hdr.mp4", "smpte2084", size="251x141")).mean() > 20


def test_hdr_without_tone_mapping_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hdr_ramp(tmp_path / "hdr.mp4", "smpte2084")
    monkeypatch.setattr("tempo_core.decoding.graph.filters_of", lambda _: frozenset({"scale"}))
    reader = reader_module.read_segments(path, probe(path), PAPER, FrameGeometry())
    assert sum(len(segment.pixels) for segment in reader) == 4
    assert reader.warnings == ("HDR pictures were taken without tone mapping: this ffmpeg lacks zscale",)


@pytest.mark.parametrize(
    ("size", "tag", "made_with"),
    [
        ("320x180", None, "bt601"),
        ("320x180", "bt709", "bt709"),
        ("1280x720", None, "bt709"),
        ("1280x720", "smpte170m", "bt601"),
        ("320x180", "bt2020nc", "bt2020"),
    ],
)
def test_colours_are_read_with_the_matrix_they_were_written_with(
    tmp_path: Path, size: str, tag: str | None, made_with: str
) -> None:
    path = tmp_path / "video.mp4"
    source = f"color=0xE02080:size={size}:duration=0.1:rate=25,format=rgb24,scale=out_color_matrix={made_with}"
    tagged = f"format=yuv420p,setparams=colorspace={tag or 'unknown'}"
    run_ffmpeg("-f", "lavfi", "-i", f"{source},{tagged}", "-c:v", "libx264", "-crf", "4", str(path))
    assert probe(path).color.matrix in (tag, "bt709" if size == "1280x720" else None)
    assert np.abs(first_frame(path)[100, 100].astype(int) - [0xE0, 0x20, 0x80]).max() <= 3


def test_full_range_is_not_stretched(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    source = "color=0x404040:size=320x180:duration=0.1:rate=25,format=rgb24,scale=out_range=full,format=yuvj420p"
    run_ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-crf", "4", str(path))
    assert np.abs(first_frame(path)[100, 100].astype(int) - 0x40).max() <= 2


def test_of_several_video_streams_the_default_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "video.mkv"
    run_ffmpeg("-f", "lavfi", "-i", "color=gray:size=320x180:rate=25:duration=1", "-f", "lavfi", "-i",
               numbered_picture(25, (96, 64)), "-map", "0", "-map", "1", "-c:v", "libx264",
               "-disposition:v:0", "0", "-disposition:v:1", "default", str(path))  # fmt: skip
    info = probe(path)
    assert (info.stream_index, info.width) == (1, 96)
    assert [number for _, number in frames_shown(path, info=info)] == [0, 6, 12, 18]


def test_of_equal_video_streams_the_largest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "video.ts"
    run_ffmpeg("-f", "lavfi", "-i", "color=gray:size=96x64:rate=25:duration=1", "-f", "lavfi", "-i",
               numbered_picture(25, (192, 108)), "-map", "0", "-map", "1", "-c:v", "libx264", str(path))  # fmt: skip
    info = probe(path)
    assert (info.stream_index, info.width) == (1, 192)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_cover_art_is_not_the_video(tmp_path: Path, suffix: str) -> None:
    cover, path = tmp_path / "cover.png", tmp_path / f"video.{suffix}"
    run_ffmpeg("-f", "lavfi", "-i", "color=red:size=1024x1024", "-frames:v", "1", str(cover))
    video = make_video(tmp_path / "plain.mp4", size=(96, 64))
    run_ffmpeg("-i", str(cover), "-i", str(video), "-map", "0", "-map", "1", "-c", "copy",
               "-disposition:v:0", "attached_pic", str(path))  # fmt: skip
    info = probe(path)
    assert info.width == 96
    assert [number for _, number in frames_shown(path, info=info)] == [0, 12, 25, 37]


@pytest.mark.parametrize(
    ("primaries", "transfer", "matrix", "refused"),
    [
        (0, 1, 0, "colorspace, color_primaries"),  # 0: RGB, of a picture that is none
        (3, 3, 8, "color_trc, colorspace, color_primaries"),
        (200, 77, 5, "color_trc, color_primaries"),
    ],
)
def test_colours_with_unknown_tags_are_read_as_is_usual(
    tmp_path: Path, primaries: int, transfer: int, matrix: int, refused: str
) -> None:
    plain, tagged = tmp_path / "plain.ts", tmp_path / "tagged.ts"
    source = "color=0xE02080:size=320x180:duration=0.1:rate=25,format=rgb24,scale=out_color_matrix=bt601,format=yuv420p"
    tags = "mpeg2_metadata=colour_primaries=5:transfer_characteristics=5:matrix_coefficients=5"
    run_ffmpeg("-f", "lavfi", "-i", source, "-c:v", "mpeg2video", "-q:v", "2", "-bsf:v", tags, str(plain))
    display = re.compile(rb"(\x00\x00\x01\xb5[\x20-\x2f])\x05\x05\x05")
    content, count = display.subn(lambda found: found[1] + bytes([primaries, transfer, matrix]), plain.read_bytes())
    assert count
    tagged.write_bytes(content)
    warning = f"colours are taken as is usual for the picture's size: the file gives them unknown tags ({refused})"
    assert probe(tagged).warnings == (warning,)
    assert np.abs(first_frame(tagged).astype(int) - first_frame(plain)).max() <= 1
