"""Scripts as files: the frames that the stage samples show the scene they belong to, at the times they claim."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nano import video_file
from nano.render import FRAME_EDGE, batch_scenes, render, sampled_moments
from nano.video_file import FRAMES_PER_S, write_video
from nano.world import LONGEST_ROW, SEGMENT_FRAMES, Habits, Scene, Script, draw_script
from tempo_core.decoding import probe, read_segments
from tempo_core.errors import VideoError
from tempo_core.sampling import segment_spans
from tempo_core.spec import PAPER, FrameGeometry
from tempo_core.values import ByteArray
from tests.support.programs import program

GEOMETRY = FrameGeometry(
    longest_edge=FRAME_EDGE,
    resize_multiple=32,
    min_resized_area=FRAME_EDGE**2,
    min_area=FRAME_EDGE**2,
    max_area=FRAME_EDGE**2,
)
MEAN_ERROR = 2.0  # of 255, over a frame: what H.264, half the chroma and the resize cost
EDGE_S = 0.001


def colourful(scenes: int, seed: int = 3) -> Script:
    return draw_script(random.Random(seed), scenes, habits=Habits(quiet=0.2, with_held_out=True))


def sampled(path: Path) -> list[ByteArray]:
    """For each segment its frames, uint8 [8, 96, 96, 3]."""
    with read_segments(path, probe(path), PAPER, GEOMETRY) as reader:
        frames = [segment.pixels for segment in reader]
    assert reader.warnings == ()
    return frames


def expected(scene: Scene) -> ByteArray:
    pixels = render(batch_scenes([scene]), sampled_moments(), FRAME_EDGE)[0]
    return (pixels * 255).round().to(torch.uint8).numpy()


def mean_error(shown: ByteArray, wanted: ByteArray) -> float:
    """The worst frame's."""
    return float(np.abs(shown.astype(float) - wanted.astype(float)).mean(axis=(1, 2, 3)).max())


def test_sampled_frames_show_their_scene(tmp_path: Path) -> None:
    script = colourful(6)
    segments = sampled(write_video(script, tmp_path / "short.mp4"))
    assert len(segments) == len(script.scenes)
    for frames, scene in zip(segments, script.scenes, strict=True):
        assert len(frames) == SEGMENT_FRAMES
        assert mean_error(frames, expected(scene)) < MEAN_ERROR


def test_the_comparison_tells_scenes_and_moments_apart(tmp_path: Path) -> None:
    moving = Scene((0.5,) * 8, "square", "red", "left", 1)
    script = Script((moving, replace(moving, motion="up"), replace(moving, colour="orange")), 4)
    segments = sampled(write_video(script, tmp_path / "told.mp4"))
    assert mean_error(segments[0], expected(script.scenes[1])) > MEAN_ERROR
    assert mean_error(segments[1], expected(script.scenes[2])) > MEAN_ERROR
    assert mean_error(segments[0], expected(moving)[[1, 2, 3, 4, 5, 6, 7, 7]]) > MEAN_ERROR


def test_segments_are_scenes_and_tags_their_middles(tmp_path: Path) -> None:
    script = colourful(5)
    info = probe(write_video(script, tmp_path / "tags.mp4"))
    assert float(info.duration) == script.duration_s
    spans = segment_spans(info.sampling(PAPER), PAPER)
    assert [span.count for span in spans] == [SEGMENT_FRAMES] * len(script.scenes)
    assert [span.tag_time_s for span in spans] == [sum(script.span_s(index)) / 2 for index in range(5)]


def test_the_same_script_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (write_video(colourful(2), tmp_path / name) for name in ("one.mp4", "two.mp4"))
    assert one.read_bytes() == two.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mp4", "two.mp4"]


@pytest.mark.slow
def test_an_hour_has_as_many_segments_as_scenes(tmp_path: Path) -> None:
    script = replace(colourful(LONGEST_ROW), scene_s=28)
    info = probe(write_video(script, tmp_path / "hour.mp4", edge=96))
    assert float(info.duration) == script.duration_s == 3584
    assert info.frame_count == script.duration_s * FRAMES_PER_S
    spans = segment_spans(info.sampling(PAPER), PAPER)
    assert len(spans) == LONGEST_ROW
    for span in spans:
        assert abs(span.tag_time_s - sum(script.span_s(span.index)) / 2) < EDGE_S


def test_a_failing_ffmpeg_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = program(tmp_path / "ffmpeg", "echo 'no such encoder' >&2\nexit 3")
    monkeypatch.setenv("TEMPO_FFMPEG", str(broken))
    with pytest.raises(VideoError, match="no such encoder"):
        write_video(colourful(40), tmp_path / "never.mp4")
    assert list(tmp_path.iterdir()) == [broken]


def test_a_hanging_ffmpeg_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = program(tmp_path / "ffmpeg", "exec sleep 60")
    monkeypatch.setenv("TEMPO_FFMPEG", str(hanging))
    monkeypatch.setattr(video_file, "_LEAST_DEADLINE_S", 0.5)
    monkeypatch.setattr(video_file, "_DEADLINE_S_PER_SCENE", 0.0)
    with pytest.raises(VideoError, match="took over"):
        write_video(colourful(2), tmp_path / "never.mp4")


@pytest.mark.parametrize(("scene_s", "edge"), [(6, 96), (0, 96), (4, 95)])
def test_scenes_that_do_not_fit_the_rate_are_refused(tmp_path: Path, scene_s: int, edge: int) -> None:
    with pytest.raises(ValueError, match="multiples of 4 s"):
        write_video(replace(colourful(1), scene_s=scene_s), tmp_path / "never.mp4", edge)
