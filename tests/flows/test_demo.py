"""``tempo demo``: the whole way on videos made on the spot."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from flows.terminal.demo_videos import demo_videos
from nano.phrasings import KINDS
from tempo_core.decoding import probe
from tests.support.tempo_cli import tempo

LINE = {
    "question", "expected", "answer", "expected_start_s", "expected_end_s", "cited_start_s", "cited_end_s", "video",
    "relevance", "model", "visual_tokens", "token_budget", "seconds",
}  # fmt: skip
QUESTIONS = sum(len(video.questions) for video in demo_videos())


def test_at_least_ten_questions_are_asked_of_every_kind() -> None:
    kinds = {question.kind for video in demo_videos() for question in video.questions}
    assert QUESTIONS >= 10
    assert kinds == set(KINDS)
    assert any(not question.relevant for video in demo_videos() for question in video.questions)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "kept"
    lines = tempo("demo", "--keep", folder, "--json").json
    asked = [(video, question) for video in demo_videos() for question in video.questions]
    for line, (video, question) in zip(lines, asked, strict=True):
        assert line.keys() == LINE
        assert (line["video"], line["question"], line["expected"]) == (video.name, question.text, question.answer)
        span = video.script.span_s(question.relevant[0]) if question.relevant else (None, None)
        assert (line["expected_start_s"], line["expected_end_s"]) == span
        assert line["answer"] == line["expected"]
        assert (line["cited_start_s"], line["cited_end_s"]) == span
        assert line["relevance"] is None if span == (None, None) else 0.5 < line["relevance"] <= 1
    return folder


@pytest.mark.slow
def test_the_videos_are_real_and_short(kept: Path) -> None:
    for video in demo_videos():
        info = probe(kept / "videos" / video.name)
        assert info.duration == video.script.duration_s <= 128
        assert info.warnings == ()


@pytest.mark.slow
def test_a_kept_demo_can_be_asked_again(kept: Path) -> None:
    (answer,) = tempo("ask", "What moves?", "--library", kept / "library", "--video", "hall.mp4", "--json").json
    assert len(answer["segments"]) == 16


@pytest.mark.slow
def test_a_second_demo_in_the_same_place_indexes_nothing(kept: Path) -> None:
    said = tempo("demo", "--keep", kept)
    assert "indexed " not in said.out
    assert said.out.count("Moments") == QUESTIONS
    assert said.out.count("Memory tokens over time") == len(demo_videos())
    assert f"{QUESTIONS} of {QUESTIONS} answers are what the videos' scripts say" in said.out
    assert "its own small world" in said.err
    assert f"--library {kept / 'library'}" in said.out


@pytest.mark.slow
def test_a_demo_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = min(demo_videos(), key=lambda video: video.script.duration_s)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("flows.terminal.demo.demo_videos", lambda: [replace(video, questions=video.questions[:1])])
    assert "indexed" in tempo("demo").out
    assert list(tmp_path.iterdir()) == []
