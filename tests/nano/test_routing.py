"""The experiment on routing by frame pairs: its prompts are the reader's own, and it runs whole."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.batched_answers import BatchedAnswers
from benchmarks.pair_answers import POLICIES, SHARES, every_setting, whole_video
from benchmarks.routing import is_right, open_stock, run
from benchmarks.routing_figure import draw
from benchmarks.routing_report import tables
from nano.checkpoint import write_stock
from nano.model import Svlm
from nano.phrasings import WHOLE_KINDS
from nano.questions import Question, Sought
from nano.sizes import stock_config
from nano.tokenizer import STOCK_WORDING
from nano.world import Scene, Script
from tempo_core import SegmentPixels, load_checkpoint
from tempo_core.stock_checkpoint import StockCheckpoint
from tempo_core.values import SegmentState
from tests.support.golden_cases import small_segment

QUESTION = "Which shape comes first?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    return write_stock(Svlm(stock_config(), STOCK_WORDING), tmp_path_factory.mktemp("nano"), torch.float32)


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> StockCheckpoint:
    loaded = load_checkpoint(folder)
    assert isinstance(loaded, StockCheckpoint)
    return loaded


@pytest.fixture(scope="module")
def states(checkpoint: StockCheckpoint) -> list[SegmentState]:
    segments: list[SegmentPixels] = [small_segment((4, 4, 6), 8.5 * number, seed=number) for number in range(4)]
    return checkpoint.router.encode(segments)


@pytest.mark.parametrize("chosen", [((0, 1, 2, 3),) * 4, ((1,), (), (0, 3), (2,)), ((), (), (), (0,))])
def test_a_prompt_that_is_cut_is_the_one_that_the_reader_builds(
    chosen: tuple[tuple[int, ...], ...], checkpoint: StockCheckpoint, states: list[SegmentState]
) -> None:
    ours = whole_video(checkpoint, QUESTION, states).cut(chosen)
    kept = [state.pairs(pairs) for state, pairs in zip(states, chosen, strict=True) if pairs]
    theirs = checkpoint.reader.prompt(QUESTION, kept)
    assert torch.equal(ours.embeds, theirs.embeds)
    assert ours.positions is not None and theirs.positions is not None
    assert torch.equal(ours.positions, theirs.positions) and ours.next_position == theirs.next_position
    assert ours.deepstack is not None and theirs.deepstack is not None
    assert all(torch.equal(one, other) for one, other in zip(ours.deepstack, theirs.deepstack, strict=True))


def test_many_prompts_at_once_are_answered_as_each_alone(
    checkpoint: StockCheckpoint, states: list[SegmentState]
) -> None:
    whole = whole_video(checkpoint, QUESTION, states)
    prompts = [whole.cut(chosen) for chosen in (((0, 1, 2, 3),) * 4, ((1,), (), (0, 3), (2,)), ((), (), (), (0,)))]
    alone = ["".join(checkpoint.reader.text_pieces(checkpoint.reader.token_ids(one, 8))).strip() for one in prompts]
    assert BatchedAnswers(checkpoint.reader).texts(prompts) == alone


def test_no_setting_gives_more_frame_pairs_than_the_budget_holds(
    checkpoint: StockCheckpoint, states: list[SegmentState]
) -> None:
    whole = whole_video(checkpoint, QUESTION, states)
    scores = np.array([0.1, 0.9, 0.2, 0.1], np.float32)
    chosen = every_setting(whole, scores, scores, np.random.default_rng(1))
    assert list(chosen) == [f"{policy}/{share:g}" for share in SHARES for policy in POLICIES]
    for name, of_segments in chosen.items():
        assert 1 <= sum(map(len, of_segments)) <= max(1, float(name.split("/")[1]) * 16)
    assert {sum(map(len, chosen[f"{policy}/1"])) for policy in POLICIES} == {16}


def test_a_time_is_right_while_what_is_sought_is_shown() -> None:
    script = Script((Scene((0.5,) * 8),) * 3, 4)
    question = Question("when", "", Sought(), "6", (1,), (1,), novel_phrasing=False, novel_pair=False)
    assert [is_right(question, script, told) for told in ("3", "4", "7", "8", "red")] == [
        False,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.slow
def test_the_experiment_runs_whole(folder: Path, tmp_path: Path) -> None:
    options = argparse.Namespace(
        model=str(folder), questions=4, per_video=2, seed=1, device="cpu", dtype="float32", skip=0, minutes=math.inf
    )
    options.videos, options.out = tmp_path, tmp_path / "routing.json"
    results: dict[str, Any] = json.loads(json.dumps(run(open_stock(options, ((3, 4),)))))
    assert len(results["questions"]["kind"]) == 4
    assert list(results["right"]) == [f"{policy}/{share:g}" for share in SHARES for policy in POLICIES]
    assert {len(bits) for bits in results["right"].values()} == {4}
    assert results["about"]["same_as_alone"] == "4 of 4"


def results_of(kinds: list[str], gaps: list[float], right: dict[str, str]) -> dict[str, Any]:
    """Results of one video a question; settings that are not in ``right`` have everything right."""
    names = [f"{policy}/{share:g}" for share in SHARES for policy in POLICIES]
    return {
        "about": [{"videos": len(kinds)}],
        "spent": dict.fromkeys(names, 1.0),
        "right": {name: right.get(name, "1" * len(kinds)) for name in names},
        "questions": {
            "kind": kinds,
            "is_whole": [int(kind in WHOLE_KINDS) for kind in kinds],
            "video": list(range(len(kinds))),
            "stands_out": gaps,
        },
    }


def test_the_threshold_that_tells_moments_from_whole_videos_is_between_their_scores() -> None:
    kinds, gaps = ["when", "colour", "most", "first"], [0.9, 0.8, 0.1, 0.2]
    said = tables(results_of(kinds, gaps, {"ata/0.0625": "1100", "even/0.0625": "0011"}))
    section = said[said.index("## Where to spread evenly") :]
    assert "0.500 tells the two sorts apart best" in section
    rows = [row.split(" | ") for row in section.splitlines() if row.startswith("| 0.5 ")]
    assert [row[1:3] + row[5:7] for row in rows] == [["100.0", "100.0", "100.0", "100.0"]]


def test_the_figure_shows_moments_and_whole_videos_apart(tmp_path: Path) -> None:
    draw(results_of(["when", "most"], [0.9, 0.1], {}), tmp_path / "routing.svg")
    assert (tmp_path / "routing.svg").stat().st_size > 10_000
