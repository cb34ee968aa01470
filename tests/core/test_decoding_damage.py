"""Files that are no usable video fail with a reason that a person understands; damaged ones say what is missing."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from tempo_core.decoding import probe
from tempo_core.errors import VideoError
from tests.support.videos import damage_packets, frames_shown, indexed, make_video, refusal, run_ffmpeg, written

SMALL = (96, 64)
ALONE = ("-g", "1")  # each frame decodes without the others
SECOND = ("-g", "25", "-sc_threshold", "0")  # a key frame each second


# --- cut short --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_an_mp4_without_its_index_is_refused(tmp_path: Path, share: float) -> None:
    whole = make_video(tmp_path / "whole.mp4", size=SMALL).read_bytes()
    assert "moov atom not found): it was cut short" in refusal(
        written(tmp_path / "cut.mp4", whole[: int(len(whole) * share)])
    )


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_file_cut_short_is_indexed_to_where_it_ends(tmp_path: Path, suffix: str, share: float) -> None:
    options = (*SECOND, "-movflags", "+faststart") if suffix == "mp4" else SECOND
    whole = make_video(tmp_path / f"whole.{suffix}", seconds=8, size=SMALL, options=options).read_bytes()
    path = written(tmp_path / f"cut.{suffix}", whole[: int(len(whole) * share)])
    info, numbers, warnings = indexed(path)
    assert 8 * share - 2.5 <= info.duration <= 8 * share + 0.5
    assert numbers == sorted(numbers) and numbers[-1] >= info.frame_count - 25
    if suffix != "ts":  # its header claims nothing
        assert any("of the 8.0 s" in warning and "header claims" in warning for warning in warnings)


def test_an_mp4_whose_pictures_are_all_cut_off_is_refused(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", size=SMALL, options=["-movflags", "+faststart"]).read_bytes()
    reason = refusal(written(tmp_path / "cut.mp4", whole[: whole.index(b"mdat") + 4]))
    assert reason.startswith("the file ends before the first of the 2.0 s of pictures that its header claims")


# --- damaged ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flips", [3, 30, 300])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_flipped_bits_cost_a_warning_or_a_reason_and_never_more(tmp_path: Path, suffix: str, flips: int) -> None:
    options = (*SECOND, "-movflags", "+faststart") if suffix == "mp4" else SECOND
    content = bytearray(make_video(tmp_path / f"video.{suffix}", seconds=4, size=SMALL, options=options).read_bytes())
    chance = random.Random(flips)
    for _ in range(flips):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path = written(tmp_path / f"flipped.{suffix}", bytes(content))
    try:
        info, _, warnings = indexed(path)
    except VideoError as error:
        outcome: tuple[str, ...] = (str(error),)
    else:
        assert info.duration < 60
        outcome = warnings
    assert all(len(reason) > 20 for reason in outcome)


def test_samples_that_do_not_decode_are_replaced_and_counted(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", codec="ffv1", size=SMALL, rate="2", seconds=8, options=ALONE)
    damage_packets(path, [5, 6, 9])
    info, numbers, warnings = indexed(path)
    assert info.frame_count == 16 and float(info.duration) == 8.0
    assert numbers == [0, 1, 2, 3, 4, 4, 4, 7, 8, 8, 10, 11, 12, 13, 14, 15]
    assert any("3 of 16 samples could not be decoded; neighbours stand in" in warning for warning in warnings)


def test_the_first_sample_is_replaced_by_the_next(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", codec="ffv1", size=SMALL, rate="2", seconds=8, options=ALONE)
    damage_packets(path, [0, 1])
    info, numbers, _ = indexed(path)
    assert (info.frame_count, numbers[:4]) == (16, [2, 2, 2, 3])


def test_more_than_half_of_the_samples_missing_is_a_failure(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", codec="ffv1", size=SMALL, rate="2", seconds=8, options=ALONE)
    damage_packets(path, [k for k in range(16) if k % 5])
    assert refusal(path).startswith("only 4 of 16 samples could be decoded: ")


def test_half_of_the_samples_missing_is_not_yet_a_failure(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", codec="ffv1", size=SMALL, rate="2", seconds=8, options=ALONE)
    damage_packets(path, list(range(1, 16, 2)))
    _, numbers, warnings = indexed(path)
    assert numbers == [k // 2 * 2 for k in range(16)]
    assert any("8 of 16 samples" in warning for warning in warnings)


def test_nothing_that_decodes_is_a_failure_with_the_decoders_reason(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", codec="ffv1", size=SMALL, rate="2", seconds=8, options=ALONE)
    damage_packets(path, list(range(16)))
    assert "no frame could be decoded: " in refusal(path)


# --- lies -------------------------------------------------------------------------------------------------------------


def test_an_mp4_whose_header_claims_an_hour_is_not_believed(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", size=SMALL)
    content = bytearray(path.read_bytes())
    for box, duration_at in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        scale_at = content.index(b"mdhd" if box == b"mdhd" else b"mvhd") + 16
        (scale,) = struct.unpack_from(">I", content, scale_at)
        struct.pack_into(">I", content, content.index(box) + duration_at, 3600 * scale)
    path.write_bytes(content)
    info, numbers, _ = indexed(path)
    assert float(info.duration) == 2.0 and numbers == [0, 12, 25, 37]


@pytest.mark.parametrize(
    ("claim_s", "warning"),
    [
        (3600, "the file ends at 4.0 s of the 3600.0 s its header claims"),
        (0.5, "the pictures run for 4.0 s, the header claims 0.5 s"),
    ],
)
def test_a_header_that_lies_is_not_believed_and_reported(tmp_path: Path, claim_s: float, warning: str) -> None:
    path = make_video(tmp_path / "video.mkv", seconds=4, size=SMALL)
    content = bytearray(path.read_bytes())
    struct.pack_into(">d", content, content.index(b"\x44\x89\x88") + 3, claim_s * 1000)  # Duration, milliseconds
    path.write_bytes(content)
    info, numbers, warnings = indexed(path)
    assert float(info.duration) == 4.0 and numbers[-1] == 87
    assert warnings == (warning,)


# --- protected --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme_options", [("-bf", "2"), ("-g", "1")])
def test_an_encrypted_video_is_refused_as_such(tmp_path: Path, scheme_options: tuple[str, ...]) -> None:
    key = "0123456789abcdef0123456789abcdef"
    protection = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key, "-encryption_kid", key)
    path = make_video(tmp_path / "video.mp4", size=SMALL, options=(*scheme_options, *protection))
    assert refusal(path) == "its pictures are encrypted and cannot be read; index a copy that is not"


def test_a_video_that_is_marked_as_encrypted_but_is_not_is_read(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", size=SMALL)
    info = replace(probe(path), encrypted=True)
    assert [number for _, number in frames_shown(path, info=info)] == [0, 12, 25, 37]


# --- what does not concern the pictures -------------------------------------------------------------------------------


def test_a_track_of_another_kind_that_is_longer_is_no_damage(tmp_path: Path) -> None:
    notes, path = tmp_path / "notes.srt", tmp_path / "noted.mkv"
    notes.write_text("1\n00:00:00,000 --> 00:01:00,000\nA remark that stays\n")
    made = make_video(tmp_path / "made.mkv", size=SMALL)
    run_ffmpeg("-i", str(made), "-i", str(notes), "-c:v", "copy", str(path))
    assert probe(path).warnings == ()


def test_damage_of_the_container_is_not_damage_of_the_pictures(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", size=SMALL)
    content = path.read_bytes()
    note = content.index(b"\x4d\x80")  # which program wrote the file; overwritten, so that no element begins there
    path.write_bytes(content[:note] + b"\0" * 2 + content[note + 2 :])
    assert indexed(path)[2] == ()
