"""A stock vision-language model over a library: routed by its own relevance, read by its own visual tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serving.answer import Answer
from serving.engine import Engine
from serving.selection import Scope
from storage import Library, open_library
from tempo_core.errors import BudgetError
from tempo_core.spec import PAPER, IndexSpec
from tests.support.golden_cases import stock_checkpoint
from tests.support.libraries import add_video

QUESTION = "What color is the square?"
FLOAT32 = replace(PAPER, name="plain", state_dtype="float32")


def made(folder: Path, spec: IndexSpec) -> Library:
    library = open_library(str(folder / "library"), create=True)
    add_video(library, stock_checkpoint(), "lecture", seconds=36, spec=spec)
    add_video(library, stock_checkpoint(), "storm", seconds=22, spec=spec)
    return library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return made(tmp_path_factory.mktemp("visual"), FLOAT32)


def asked(library: Library, *titles: str, token_budget: int | None = None) -> Answer:
    scope = Scope(videos=tuple(library.videos(select=titles)))
    return Engine(library, stock_checkpoint()).ask(QUESTION, scope, token_budget=token_budget, max_new_tokens=6)


@pytest.mark.parametrize("spec", [FLOAT32, PAPER], ids=["float32", "bfloat16"])
def test_where_everything_fits_the_answer_is_that_of_all_stored_states(spec: IndexSpec, tmp_path: Path) -> None:
    """Which the reader's own tests hold to the stock model's."""
    library = made(tmp_path, spec)
    (video,) = library.videos(select=["lecture.mp4"])
    reader = stock_checkpoint().reader
    prompt = reader.prompt(QUESTION, library.read_states(video))
    answer = asked(library, "lecture.mp4")
    assert answer.answer == "".join(reader.text_pieces(reader.token_ids(prompt, 6)))
    assert answer.allocation == "everything"
    assert answer.usage.prompt_tokens == len(prompt)


def test_each_segment_says_its_pairs_and_tokens(library: Library) -> None:
    answer = asked(library, "lecture.mp4")
    assert [(segment.pairs, segment.tokens) for segment in answer.segments] == [(4, 24)] * 9
    assert answer.usage.visual_tokens == 9 * 24


def test_visual_tokens_and_tags_stay_within_the_budget(library: Library) -> None:
    answer = asked(library, "lecture.mp4", token_budget=300)
    assert 150 < answer.usage.visual_tokens + answer.usage.tag_tokens <= 300


def test_where_no_score_stands_out_no_moment_is_cited(library: Library) -> None:
    answer = asked(library, "lecture.mp4", token_budget=300)
    assert answer.allocation == "even"
    assert answer.citations == ()


def test_a_second_video_is_introduced_by_its_title(library: Library) -> None:
    answer = asked(library, "lecture.mp4", "storm.mp4")
    assert {segment.uri.rsplit("/", 1)[-1] for segment in answer.segments} == {"lecture.mp4", "storm.mp4"}
    alone = asked(library, "lecture.mp4").usage.tag_tokens + asked(library, "storm.mp4").usage.tag_tokens
    assert answer.usage.tag_tokens > alone


def test_a_budget_that_holds_no_frame_pair_is_refused(library: Library) -> None:
    with pytest.raises(BudgetError, match="holds no frame pair"):
        asked(library, "lecture.mp4", token_budget=5)
