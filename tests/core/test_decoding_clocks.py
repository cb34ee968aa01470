"""Times stay true on made timelines: clocks that wrap or begin below zero, gaps, frames out of order, damaged pictures.

Each picture carries its number, which is the independent reading of when it is shown.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import av
import pytest

from tempo_core.decoding import probe
from tempo_core.spec import IndexSpec
from tests.support.videos import assert_shows_its_times, damage_packets, frames_shown, make_video, retimed

SMALL = (96, 64)
EVERY_TENTH = IndexSpec(frames_per_second=10)
REORDERED = ("-bf", "2", "-g", "25")
WRAP_S = 2**33 / 90_000  # the clock of MPEG-TS


@pytest.mark.parametrize("before_wrap_s", [0.5, 1.96, 59.0])
def test_a_segment_whose_clock_is_about_to_wrap_shows_all_frames(tmp_path: Path, before_wrap_s: float) -> None:
    """FFmpeg counts the times before the wrap as negative ones."""
    options = (*REORDERED, "-output_ts_offset", str(WRAP_S - before_wrap_s - 1.4))  # 1.4: the delay of the muxer
    path = make_video(tmp_path / "segment.ts", size=SMALL, options=options)
    info = assert_shows_its_times(path, [k / 25 for k in range(50)], EVERY_TENTH)
    assert (info.frame_count, info.warnings) == (50, ())


@pytest.mark.parametrize("chance", range(2))
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_frames_of_any_lengths_from_any_beginning_keep_their_times(tmp_path: Path, suffix: str, chance: int) -> None:
    dice = random.Random(chance)
    lengths = [dice.choice([40, 40, 40, 20, 80, 4_000 if chance % 2 else 120]) for _ in range(49)]
    times = list(accumulate(lengths, initial=dice.choice([0, 1000, 1_000_000])))
    made = make_video(tmp_path / "made.mp4", size=SMALL, options=REORDERED)
    path = retimed(tmp_path / f"retimed.{suffix}", made, times)
    spec = IndexSpec(frames_per_second=100 / (times[-1] - times[0]) * 1000)
    assert assert_shows_its_times(path, [(time - times[0]) / 1000 for time in times], spec).frame_count == 50


@pytest.mark.parametrize("out_of_order", [3, 20])
@pytest.mark.parametrize("suffix", ["flv", "mp4"])
def test_one_frame_out_of_order_costs_no_other_frame_its_time(tmp_path: Path, suffix: str, out_of_order: int) -> None:
    times = [40 * k for k in range(50)]
    times[out_of_order], times[out_of_order + 1] = times[out_of_order + 1], times[out_of_order]
    made = make_video(tmp_path / "made.mp4", size=SMALL, options=REORDERED)
    path = retimed(tmp_path / f"retimed.{suffix}", made, times)
    shown = frames_shown(path, IndexSpec(frames_per_second=25))
    wrong = [(time_s, number) for time_s, number in shown if round(time_s * 25) != number]
    assert all(abs(number - out_of_order) <= 1 for _, number in wrong) and len(shown) == 50


@pytest.mark.parametrize("repeated", [3, 20])
def test_a_time_given_twice_costs_no_other_frame_its_time(tmp_path: Path, repeated: int) -> None:
    times = [40 * k for k in range(50)]
    times[repeated + 1] = times[repeated]
    made = make_video(tmp_path / "made.mp4", size=SMALL, options=REORDERED)
    shown = frames_shown(retimed(tmp_path / "retimed.mkv", made, times), IndexSpec(frames_per_second=25))
    wrong = {number for time_s, number in shown if round(time_s * 25) != number}
    assert wrong <= {repeated, repeated + 1} and len(shown) == 50


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("avi", "ffv1", ("-g", "1")),
        ("avi", "mjpeg", ()),
        ("avi", "libx264", REORDERED),
        ("avi", "mpeg4", ("-bf", "2", "-g", "10")),
        ("mkv", "ffv1", ("-g", "1")),
    ],
)
def test_pictures_that_no_decoder_gives_cost_no_other_frame_its_time(
    tmp_path: Path, suffix: str, codec: str, options: tuple[str, ...]
) -> None:
    path = make_video(tmp_path / f"video.{suffix}", size=SMALL, codec=codec, seconds=4, options=options)
    damage_packets(path, [4, 5, 6, 7, 8, 9, 10, 11])
    shown = frames_shown(path, IndexSpec(frames_per_second=10))
    assert probe(path).frame_count == 100 and len(shown) == 40
    assert all(round(time_s * 25) == number for time_s, number in shown[14:])


def test_a_damaged_first_picture_costs_no_other_frame_its_time(tmp_path: Path) -> None:
    options = (*REORDERED, "-flags", "+global_header")
    path = make_video(tmp_path / "video.avi", size=SMALL, seconds=4, options=options)
    damage_packets(path, [0])
    shown = frames_shown(path, IndexSpec(frames_per_second=10))
    assert all(round(time_s * 25) == number for time_s, number in shown[14:])


@pytest.mark.parametrize("damaged", [(), (11, 12, 13, 14, 15, 16, 17, 18, 19)])
def test_a_timeline_that_restarts_keeps_its_times_behind_damaged_pictures(
    tmp_path: Path, damaged: Sequence[int]
) -> None:
    path = make_video(tmp_path / "part.ts", size=SMALL, options=("-bf", "2", "-g", "10"))
    part = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    middle = bytearray(part)
    for packet in (packets[k] for k in damaged):
        end = ((packet.pos or 0) // 188 + 1) * 188  # the whole picture is at the end of one block
        middle[end - packet.size + 11 : end] = b"\xff" * (packet.size - 11)  # its delimiter and its kind stay
    path.write_bytes(part + middle + part)
    shown = frames_shown(path, IndexSpec(frames_per_second=10))
    assert len(shown) == 60
    assert all(round(time_s * 25) % 50 == number for time_s, number in [*shown[:20], *shown[-20:]])
