"""``tempo index``: what is new is read, what is known is not, what is broken costs only itself."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from flows.models import ModelChoice, load_model
from storage import migrations, open_library
from tempo_core.pixels import decode_jpeg, patchify
from tempo_core.values import SegmentPixels
from tests.support.tempo_cli import ended, index, small_video, start, statuses, tempo
from tests.support.videos import frame_number, make_video

LINE = {
    "uri", "status", "video_id", "reason", "warnings", "segments", "frames", "duration_s", "state_bytes", "seconds",
    "tried_again",
}  # fmt: skip


def test_a_new_video_is_indexed_with_its_true_figures(library: Path, archive: Path) -> None:
    small_video(archive / "talk.mp4", seconds=6)
    lines = tempo("index", archive, "--library", library, "--json").json
    assert len(lines) == 2
    video, summary = lines
    assert video.keys() == LINE
    assert (video["status"], video["reason"], video["warnings"]) == ("indexed", None, [])
    assert video["uri"] == str(archive / "talk.mp4")
    assert len(video["video_id"]) == 64
    assert (video["segments"], video["frames"]) == (2, 12)
    assert video["duration_s"] == pytest.approx(6.0)
    assert summary["counts"] == {
        "indexed": 1, "unchanged": 0, "duplicate": 0, "failed": 0, "failed-before": 0, "pending": 0, "gone": 0,
    }  # fmt: skip
    assert (summary["segments"], summary["frames"]) == (2, 12)
    assert summary["state_bytes"] == video["state_bytes"] > 0


def test_what_is_stored_is_what_the_model_sees_of_the_frames_at_their_times(library: Path, archive: Path) -> None:
    index(library, small_video(archive / "talk.mp4", seconds=6))
    opened, checkpoint = open_library(str(library)), load_model(ModelChoice("embedded"), lambda _: None)
    (record,) = opened.videos()
    spans, pixels = [segment.span for segment in opened.segments(record)], []
    for span, (_, jpegs, times) in zip(spans, opened.read_frames(record), strict=True):
        frames = decode_jpeg(jpegs)
        assert [frame_number(frame) for frame in frames] == [round(time * 5) for time in times]
        assert times == [int(5 * (span.first + i) / 2) / 5 for i in range(span.count)]  # the last at or before
        pixels.append(SegmentPixels(*patchify(frames), span.pair_times_s))
    states = checkpoint.router.encode(pixels, state_dtype="bfloat16")
    stored = opened.read_states(record)
    assert all((one.rows == made.rows).all() for one, made in zip(stored, states, strict=True))
    features = checkpoint.router.features(checkpoint.router.prefill(states))
    best = [opened.search(feature, limit=1)[0] for feature in features]
    assert [(hit.segment.index, round(hit.score, 4)) for hit in best] == [(0, 1.0), (1, 1.0)]


def test_an_unchanged_file_is_not_opened(library: Path, archive: Path) -> None:
    path = small_video(archive / "talk.mp4")
    index(library, archive)
    stat = path.stat()
    path.write_bytes(b"\0" * stat.st_size)  # whoever opened it now would see no video
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (line,) = index(library, archive)
    assert (line["status"], line["segments"], line["frames"]) == ("unchanged", 1, 4)


def test_a_changed_file_is_indexed_again(library: Path, archive: Path) -> None:
    path = small_video(archive / "talk.mp4", seconds=2)
    (first,) = index(library, archive)
    small_video(path, seconds=6)
    (second,) = index(library, archive)
    assert second["status"] == "indexed"
    assert second["video_id"] != first["video_id"]
    (source,) = tempo("status", "--library", library, "--json").json[0]["sources"]
    assert (source["video_id"], source["segments"]) == (second["video_id"], 2)


def test_a_copy_under_another_name_is_not_encoded_again(library: Path, archive: Path) -> None:
    path = small_video(archive / "talk.mp4")
    index(library, archive)
    shutil.copy(path, archive / "copy.mp4")
    assert statuses(index(library, archive)) == {"talk.mp4": "unchanged", "copy.mp4": "duplicate"}
    found = tempo("status", "--library", library, "--json").json[0]
    assert (found["videos"], len(found["sources"])) == (1, 2)
    assert len({source["video_id"] for source in found["sources"]}) == 1


def test_two_new_copies_are_encoded_once(library: Path, archive: Path) -> None:
    shutil.copy(small_video(archive / "a.mp4"), archive / "b.mp4")
    assert statuses(index(library, archive)) == {"a.mp4": "indexed", "b.mp4": "duplicate"}


def test_a_touched_file_of_the_same_content_is_no_new_video(library: Path, archive: Path) -> None:
    path = small_video(archive / "talk.mp4")
    index(library, archive)
    os.utime(path, ns=(1, 1))
    (line,) = index(library, archive)
    assert (line["status"], line["seconds"] > 0) == ("unchanged", True)  # it was hashed
    (line,) = index(library, archive)
    assert (line["status"], line["seconds"]) == ("unchanged", 0.0)  # it was not opened


def test_a_bad_file_costs_its_own_entry_only(library: Path, archive: Path) -> None:
    (archive / "a.mp4").write_text("this is no video")
    small_video(archive / "b.mp4")
    lines = index(library, archive, code=3)
    assert statuses(lines) == {"a.mp4": "failed", "b.mp4": "indexed"}
    assert lines[0]["reason"] and "unexpected" not in lines[0]["reason"]
    (failure,) = tempo("status", "--library", library, "--json").json[0]["failures"]
    assert (failure["uri"], failure["reason"]) == (str(archive / "a.mp4"), lines[0]["reason"])


@pytest.mark.parametrize(("ffmpeg", "reason"), [("/nowhere", "no program that can be run"), ("false", "does not run")])
def test_an_ffmpeg_that_does_not_run_is_no_videos_failure(
    ffmpeg: str, reason: str, library: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_video(archive / "talk.mp4")
    with monkeypatch.context() as broken:
        broken.setenv("TEMPO_FFMPEG", ffmpeg)
        assert reason in tempo("index", archive, "--library", library, code=1).err
    assert statuses(index(library, archive)) == {"talk.mp4": "indexed"}


def test_what_failed_is_left_out_until_a_retry_or_a_change(library: Path, archive: Path) -> None:
    path = archive / "a.mp4"
    path.write_text("this is no video")
    (failed,) = index(library, archive, code=3)
    (again,) = index(library, archive)
    assert (again["status"], again["reason"]) == ("failed-before", failed["reason"])
    assert statuses(index(library, archive, "--retry-failed", code=3)) == {"a.mp4": "failed"}
    assert tempo("status", "--library", library, "--json").json[0]["failures"][0]["attempts"] == 2
    small_video(path)
    assert statuses(index(library, archive)) == {"a.mp4": "indexed"}
    assert tempo("status", "--library", library, "--json").json[0]["failures"] == []


def test_a_link_that_leads_nowhere_is_tried_again_each_time(library: Path, archive: Path) -> None:
    (archive / "a.mp4").symlink_to(archive / "elsewhere")
    small_video(archive / "b.mp4")
    assert statuses(index(library, archive, code=3)) == {"a.mp4": "failed", "b.mp4": "indexed"}
    small_video(archive / "target.mkv").rename(archive / "elsewhere")
    assert statuses(index(library, archive)) == {"a.mp4": "indexed", "b.mp4": "unchanged"}


def test_memory_that_ran_out_is_not_the_videos_fault(
    library: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_video(archive / "a.mp4")

    def exhausted(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as full:
        full.setattr("flows.video.stage.kept_pixels", exhausted)
        assert statuses(index(library, archive, code=3)) == {"a.mp4": "failed"}
    assert statuses(index(library, archive)) == {"a.mp4": "indexed"}


def test_names_that_try_to_steer_are_only_names(library: Path, archive: Path) -> None:
    names = ["-version.mp4", "new\nline.mp4", "\x1b[31mred.mp4", "[bold]x.mp4", "%s 'q' ;echo.mp4", "ünï 日本.mp4"]
    for seconds, name in enumerate(names, start=2):
        small_video(archive / "plain.mp4", seconds=seconds).rename(archive / name)
    assert set(statuses(index(library, archive)).values()) == {"indexed"}
    shown = tempo("status", "--library", library).out + tempo("index", archive, "--library", library).out
    assert "\x1b" not in shown


def test_a_name_that_is_no_text_is_kept_with_its_bytes_escaped(library: Path, archive: Path) -> None:
    good, bad = archive / os.fsdecode(b"caf\xe9 1.mp4"), archive / os.fsdecode(b"\xff.mp4")
    small_video(archive / "talk.mp4").rename(good)
    bad.write_text("no video")
    escaped = f"file://{archive}/caf%E9%201.mp4"
    first, second = index(library, archive, code=3)
    assert (first["uri"], first["status"]) == (f"file://{archive}/%FF.mp4", "failed")
    assert (second["uri"], second["status"]) == (escaped, "indexed")
    assert statuses(index(library, good)) == statuses(index(library, escaped)) == {"caf%E9%201.mp4": "unchanged"}
    assert "%FF" in tempo("index", archive, "--library", library, "--plan", "--retry-failed").out
    good.unlink()
    assert statuses(index(library, archive)) == {"caf%E9%201.mp4": "gone", "%FF.mp4": "failed-before"}
    assert tempo("remove", good, "--library", library, "--json").json == [{"uri": escaped, "status": "removed"}]


def test_readable_output_names_each_new_video_and_counts_the_rest(library: Path, archive: Path) -> None:
    small_video(archive / "talk.mp4")
    (archive / "broken.mp4").write_text("no video")
    said = tempo("index", archive, "--library", library, code=3)
    assert "talk.mp4  00:02, 1 segment" in said.out
    assert "broken.mp4" in said.out
    assert "1 indexed, 1 failed" in said.out
    assert "its own small world" in said.err
    assert "1 unchanged, 1 failed-before" in tempo("index", archive, "--library", library).out


def test_a_damaged_video_is_indexed_with_a_warning(library: Path, archive: Path) -> None:
    path = make_video(archive / "cut.mkv", seconds=6, rate="5", size=(96, 64), codec="mpeg4", options=["-g", "5"])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    (line,) = index(library, archive)
    assert line["status"] == "indexed"
    assert line["warnings"]
    assert line["duration_s"] < 6


TERMINAL = """
import fcntl, os, pty, struct, subprocess, sys, termios
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 70, 0, 0))
out = slave if sys.argv[1] == "both" else subprocess.PIPE
process = subprocess.Popen([sys.executable, "-m", "flows.cli", *sys.argv[2:]], stdout=out, stderr=slave, text=True)
os.close(slave)
drawn = b""
try:
    while data := os.read(master, 65536):
        drawn += data
except OSError:
    pass
print(repr(drawn.decode()))
print(process.stdout.read() if process.stdout else "")
sys.exit(process.wait())
"""


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["both", "errors"])
def test_a_terminal_gets_bars_and_standard_output_stays_clean(streams: str, library: Path, archive: Path) -> None:
    small_video(archive / "talk.mp4", seconds=6)
    json_flag = ["--json"] if streams == "errors" else []
    command = ["index", str(archive), "--library", str(library), *json_flag]
    said = ended(start([sys.executable, "-c", TERMINAL, streams, *command], TERM="xterm-256color", COLUMNS="70"))
    assert said.code == 0, said.out
    drawn, _, printed = said.out.partition("\n")
    assert "12/12 frames, 2/2 segments" in drawn
    if streams == "errors":
        assert [set(json.loads(line)) >= {"segments", "frames"} for line in printed.split("\n") if line] == [True] * 2
    else:
        assert r"\x1b[2Kindexed       " in drawn  # the bar was wiped before the line was written
        assert "1 indexed; 2 segments" in drawn


def test_a_library_of_an_older_schema_is_upgraded(
    library: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_video(archive / "talk.mp4")
    index(library, archive)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, lambda store, tables: None))
    monkeypatch.setattr("storage.manifest.OLDEST_READ", migrations.schema_version())
    assert "`tempo index` brings it up to date" in tempo("status", "--library", library, code=1).err
    assert statuses(index(library, archive)) == {"talk.mp4": "unchanged"}
    assert tempo("status", "--library", library, "--json").json[0]["schema"] == migrations.schema_version()
