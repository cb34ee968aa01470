"""``tempo demo``: the whole way on videos made on the spot."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from flows.demo_videos import DEMO_VIDEOS
from tempo_cli import tempo
from tempo_core.decoding import probe

LINE = {
    "question", "expected", "answer", "expected_start_s", "expected_end_s", "cited_start_s", "cited_end_s", "video",
    "relevance", "model", "visual_tokens", "token_budget", "seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "kept"
    lines = tempo("demo", "--keep", folder, "--json").json
    assert [line["video"] for line in lines] == [video.name for video in DEMO_VIDEOS]
    for line in lines:
        assert line.keys() == LINE
        assert line["expected"] is line["expected_start_s"] is line["expected_end_s"] is None
        assert 0 <= line["cited_start_s"] < line["cited_end_s"]
        assert 0 <= line["relevance"] <= 1
        assert line["answer"]
    return folder


def test_the_videos_are_real_and_short(kept: Path) -> None:
    for video in DEMO_VIDEOS:
        info = probe(kept / "videos" / video.name)
        assert 10 <= info.duration <= 40
        assert info.warnings == ()


def test_a_kept_demo_can_be_asked_again(kept: Path) -> None:
    (answer,) = tempo("ask", "What moves?", "--library", kept / "library", "--video", "cards.mp4", "--json").json
    assert len(answer["segments"]) == 7


def test_a_second_demo_in_the_same_place_indexes_nothing(kept: Path) -> None:
    said = tempo("demo", "--keep", kept)
    assert "indexed " not in said.out
    assert said.out.count("Moments") == len(DEMO_VIDEOS)
    assert said.out.count("Memory tokens over time") == len(DEMO_VIDEOS)
    assert "random weights" in said.err
    assert f"--library {kept / 'library'}" in said.out


def test_a_demo_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert "indexed" in tempo("demo").out
    assert list(tmp_path.iterdir()) == []
