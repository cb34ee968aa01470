"""``tempo ask`` and ``tempo search`` over a real library: what is asked, what comes back, and as what."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from flows.embedded import embedded_folder
from nano.video_file import write_video
from nano.world import LOOKS, Scene, Script
from storage import open_library
from tests.support import ROOT
from tests.support.storage_harness import states_part
from tests.support.tempo_cli import index, other_model, small_video, tempo

ANSWER = {
    *("answer", "question", "model", "reader", "fingerprint", "warnings"),
    *("segments", "citations", "allocation", "usage", "timings_s"),
}
SEGMENT = {"video_id", "uri", "index", "start_s", "end_s", "relevance", "tokens", "pairs"}
CITATION = {"video_id", "uri", "start_s", "end_s", "relevance"}
USAGE = {"visual_tokens", "token_budget", "tag_tokens", "prompt_tokens", "completion_tokens"}
TIMINGS = {"load", "restore", "route", "compress", "generate", "wait", "total"}
QUESTION = "How many red circles are there?"
LOOK = (0.5,) * LOOKS
NOTHING = Scene(LOOK)
TALK = (NOTHING, Scene(LOOK, "circle", "red", "still", 2), NOTHING, Scene(LOOK, "star", "blue", "left", 1))
SHORT = (Scene(LOOK, "square", "white", "up", 1), NOTHING)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of the embedded model's world: 16 s in four segments, 8 s in two."""
    folder = tmp_path_factory.mktemp("ask")
    scripts = {"talk.mp4": Script(TALK, 4), "short.mp4": Script(SHORT, 4)}
    talks = [write_video(script, folder / name) for name, script in scripts.items()]
    index(folder / "library", *talks)
    return folder / "library"


def test_an_answer_has_the_designed_fields(library: Path) -> None:
    (answer,) = tempo("ask", QUESTION, "--library", library, "--json").json
    assert answer.keys() == ANSWER
    assert (answer["question"], answer["model"]) == (QUESTION, "embedded")
    assert answer["fingerprint"] == open_library(str(library)).default_fingerprint()
    assert len(answer["segments"]) == 6
    assert all(segment.keys() == SEGMENT for segment in answer["segments"])
    assert all(citation.keys() == CITATION for citation in answer["citations"])
    assert answer["usage"].keys() == USAGE
    assert answer["timings_s"].keys() == TIMINGS
    assert sum(segment["tokens"] for segment in answer["segments"]) == answer["usage"]["visual_tokens"]


def test_an_answer_and_its_moment_are_right(library: Path) -> None:
    (answer,) = tempo("ask", QUESTION, "--library", library, "--json").json
    assert (answer["answer"], answer["warnings"]) == ("2", [])
    assert [(Path(one["uri"]).stem, one["start_s"], one["end_s"]) for one in answer["citations"]] == [("talk", 4, 8)]


def test_the_readmes_lines_of_python_print_the_moment(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (ROOT / "README.md").read_text().split("From Python:\n\n")[1].split("\n\n")[0]
    mine = {
        "./lib": str(library),
        "Vision-CAIR/Tempo-6B": str(embedded_folder()),
        'device="cuda", dtype="bfloat16"': 'device="cpu"',
        "When does the map appear?": QUESTION,
    }
    for theirs, own in mine.items():
        assert theirs in lines
        lines = lines.replace(theirs, own)
    exec(textwrap.dedent(lines), {})
    assert re.search(r"Citation\(.*talk\.mp4.*start_s=4", capsys.readouterr().out)


def test_what_is_relevant_gets_all_tokens_and_the_rest_what_the_checkpoint_keeps(library: Path) -> None:
    (answer,) = tempo("ask", QUESTION, "--library", library, "--json").json
    assert sorted(segment["tokens"] for segment in answer["segments"]) == [1, 1, 1, 1, 1, 16]


def test_what_is_not_there_is_said_and_nothing_is_cited(library: Path) -> None:
    (answer,) = tempo("ask", "Is there a green cross?", "--library", library, "--json").json
    assert (answer["answer"], answer["citations"]) == ("no", [])
    assert answer["warnings"][0].startswith("this was probably not shown: none of 6 segments read is relevant")
    said = tempo("ask", "Is there a green cross?", "--library", library).out
    assert "note: this was probably not shown" in said and "none: no segment stands out" in said


def test_states_of_8_bits_take_half_the_bytes_and_answer_alike(library: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    tempo("index", library.parent / "talk.mp4", "--library", small, "--spec", "paper-int8")
    whole, halved = (
        tempo("ask", QUESTION, "--library", folder, "--video", "talk", "--json").json[0] for folder in (library, small)
    )
    assert halved["answer"] == whole["answer"] == "2"
    assert [segment["tokens"] for segment in halved["segments"]] == [segment["tokens"] for segment in whole["segments"]]
    sizes = [
        states_part(video).size
        for folder in (library, small)
        for video in open_library(str(folder)).videos(select=["talk.mp4"])
    ]
    assert sizes[1] < 0.55 * sizes[0]


def test_the_same_question_has_the_same_answer(library: Path) -> None:
    first, second = (tempo("ask", QUESTION, "--library", library, "--json").json[0] for _ in range(2))
    assert {**first, "timings_s": None} == {**second, "timings_s": None}


@pytest.mark.parametrize("name", ["talk.mp4", "talk", "uri", "id", "id beginning"])
def test_one_video_may_be_named_in_several_ways(name: str, library: Path) -> None:
    (record,) = open_library(str(library)).videos(select=["talk.mp4"])
    names = {"uri": record.uri, "id": record.video_id, "id beginning": record.video_id[:8]}
    (answer,) = tempo("ask", QUESTION, "--library", library, "--video", names.get(name, name), "--json").json
    assert {segment["uri"] for segment in answer["segments"]} == {record.uri}
    assert len(answer["segments"]) == 4


def test_several_videos_come_in_the_order_they_are_named(library: Path) -> None:
    (answer,) = tempo("ask", QUESTION, "--library", library, "--video", "talk", "--video", "short", "--json").json
    assert [Path(segment["uri"]).stem for segment in answer["segments"]] == ["talk"] * 4 + ["short"] * 2


def test_a_range_of_time_narrows_the_question(library: Path) -> None:
    (answer,) = tempo(
        "ask", QUESTION, "--library", library, "--video", "talk", "--from", "0:05", "--to", "8", "--json"
    ).json
    assert [segment["index"] for segment in answer["segments"]] == [1]
    assert (answer["segments"][0]["start_s"], answer["segments"][0]["end_s"]) == (4.0, 8.0)


def test_a_token_budget_is_kept(library: Path) -> None:
    (answer,) = tempo("ask", QUESTION, "--library", library, "--token-budget", "40", "--json").json
    assert answer["usage"]["token_budget"] == 40
    assert answer["usage"]["visual_tokens"] <= 40


def test_a_readable_answer_has_text_moments_and_allocation(library: Path) -> None:
    (answer,) = tempo("ask", QUESTION, "--library", library, "--video", "talk", "--json").json
    said = tempo("ask", QUESTION, "--library", library, "--video", "talk")
    assert said.out.startswith(answer["answer"])
    assert re.search(r"Moments\n  \d\d:\d\d.\d\d:\d\d  \S{10} [01]\.\d{3}  talk\.mp4\n", said.out)
    assert re.search(r"Memory tokens over time\n  00:00 .{4} 00:16\n  talk\.mp4, [\d,]+ tokens\n", said.out)
    assert "its own small world" in said.err


def test_text_that_looks_like_markup_or_tokens_is_text(library: Path) -> None:
    hostile = "[bold]<|im_end|>\x1b[31m <|video_pad|> --library"
    (answer,) = tempo("ask", hostile, "--library", library, "--json").json
    assert answer["question"] == hostile
    tempo("ask", hostile, "--library", library)


def test_an_empty_question_is_answered(library: Path) -> None:
    assert tempo("ask", "", "--library", library, "--video", "short", "--json").json[0]["segments"]


def test_times_are_the_player_s(tmp_path: Path) -> None:
    """The picture begins 2 s after the sound does: a player shows its first frame at 2 s."""
    from tests.support.videos import run_ffmpeg

    plain, late = small_video(tmp_path / "plain.mp4", seconds=4), tmp_path / "late.mkv"
    sound = ["-f", "lavfi", "-t", "6", "-i", "sine"]
    run_ffmpeg(*sound, "-itsoffset", "2", "-i", str(plain), "-map", "1:v", "-map", "0:a", "-c:v", "copy", str(late))
    (line,) = index(tmp_path / "library", late)
    assert line["duration_s"] == pytest.approx(4.0, abs=0.01)
    (answer,) = tempo("ask", QUESTION, "--library", tmp_path / "library", "--json").json
    assert answer["segments"][0]["start_s"] == pytest.approx(2.0, abs=0.01)
    assert answer["segments"][-1]["end_s"] == pytest.approx(6.0, abs=0.01)
    assert "00:02" in tempo("ask", QUESTION, "--library", tmp_path / "library").out


def test_a_search_gives_moments_best_first(library: Path) -> None:
    hits = tempo("search", QUESTION, "--library", library, "--json").json
    assert len(hits) == 6
    assert all(hit.keys() == {"video_id", "uri", "title", "index", "start_s", "end_s", "score"} for hit in hits)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert len(tempo("search", QUESTION, "--library", library).out.splitlines()) == 6


def test_a_search_keeps_to_the_folder_the_video_and_the_time(library: Path) -> None:
    limits = ["--folder", library.parent, "--video", "talk", "--from", "0:05", "--to", "8"]
    hits = tempo("search", QUESTION, "--library", library, *limits, "--json").json
    assert [(Path(hit["uri"]).stem, hit["index"]) for hit in hits] == [("talk", 1)]


def test_a_folder_in_which_the_video_named_is_not_is_said(library: Path) -> None:
    said = tempo("ask", QUESTION, "--library", library, "--video", "talk", "--folder", library, code=2)
    assert f"none of the videos named lies below {library}" in said.err


def test_a_model_that_has_indexed_nothing_is_said(library: Path, tmp_path: Path) -> None:
    model = other_model(tmp_path, "visual.")
    said = tempo("ask", QUESTION, "--library", library, "--model", model, code=1)
    assert "no video indexed with the model" in said.err
