"""Decoding on a GPU is asked for by name, checked before a run, and never mixed with software's pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tempo_core.decoding import check_decoder, find_ffmpeg, probe, read_segments
from tempo_core.decoding.graph import Pass, Source, command
from tempo_core.errors import TempoError, VideoError
from tempo_core.spec import NAMED_SPECS, PAPER, FrameGeometry
from tests.support.videos import make_video

NVDEC = NAMED_SPECS["paper-nvdec"]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """ffmpeg sees no GPU, also on a machine that has one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_the_decoder_is_refused_with_the_way_out() -> None:
    with pytest.raises(TempoError, match=r"'paper-nvdec' decodes on an NVIDIA GPU.*cannot do it here.*as paper does"):
        check_decoder(NVDEC)


def test_software_needs_an_ffmpeg_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    check_decoder(PAPER)
    monkeypatch.setenv("TEMPO_FFMPEG", "/nowhere/ffmpeg")
    with pytest.raises(TempoError, match="no program that can be run"):
        check_decoder(PAPER)


@pytest.mark.usefixtures("no_gpu")
def test_no_other_decoder_stands_in_for_the_gpu(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", size=(96, 64))
    with pytest.raises(VideoError, match=r"the decoder ended on the GPU .a spec that decodes in software may"):
        list(read_segments(path, probe(path), NVDEC, FrameGeometry()))


@pytest.mark.parametrize(
    ("size", "halved", "width"), [((3840, 2160), 2, 512), ((1920, 1080), 1, 512), ((320, 180), 0, 512)]
)
def test_the_gpu_halves_a_picture_while_it_stays_larger_than_wanted(
    tmp_path: Path, size: tuple[int, int], halved: int, width: int
) -> None:
    info = replace(probe(make_video(tmp_path / "video.mp4", size=(64, 64))), width=size[0], height=size[1])
    graph = " ".join(command(find_ffmpeg(), Source("video.mp4", info, (width, 256), decoder="nvdec"), Pass()))
    assert graph.count("scale_cuda=iw/2:ih/2") == halved
    assert graph.index("scale_cuda") < graph.index("hwdownload") < graph.index(f"scale={width}:256")
    assert graph.index("-hwaccel cuda") < graph.index("file:video.mp4")
