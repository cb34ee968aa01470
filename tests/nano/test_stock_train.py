"""Training nano-vl: what is drawn for it, and that its command writes a model that loads."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nano import train as training
from nano.phrasings import PHRASINGS, WHOLE_KINDS, Kind
from nano.questions import all_texts
from nano.schedule import STOCK_SCHEDULE
from nano.segment_batches import BatchShape
from nano.stock_batches import StockBatch, draw_kept, draw_stock_batch
from nano.tables import PAIRS, Tables
from nano.tokenizer import STOCK_WORDING
from nano.train import main
from nano.world import LONGEST_ROW, SCENE_LENGTHS_S
from tempo_core import load_checkpoint
from tempo_core.stock_checkpoint import StockCheckpoint

TINY = replace(
    STOCK_SCHEDULE,
    read=1,
    short=1,
    long=2,
    short_shape=BatchShape(videos=1, segments=4, questions=2),
    long_shape=BatchShape(videos=1, segments=4, questions=2, long=6),
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables(tmp_path_factory.mktemp("tokenizer"), STOCK_WORDING)


@pytest.fixture(scope="module")
def short(tables: Tables) -> StockBatch:
    return draw_stock_batch(random.Random(1), BatchShape(videos=8, segments=12, questions=8), tables)


@pytest.fixture(scope="module")
def long(tables: Tables) -> StockBatch:
    return draw_stock_batch(random.Random(1), BatchShape(videos=8, segments=12, questions=8, long=40), tables)


def asked(tables: Tables, batch: StockBatch, kinds: Sequence[Kind]) -> list[tuple[int, int]]:
    """(video, question) of those kinds; both spellings of colour are British here."""
    known = {text for kind in kinds for form in PHRASINGS[kind][:-1] for text in all_texts(kind, form)}
    texts = [[tables.texts[number].replace("color", "colour") for number in row] for row in batch.asked.tolist()]
    return [(video, place) for video, row in enumerate(texts) for place, text in enumerate(row) if text in known]


def said(tables: Tables, batch: StockBatch, at: tuple[int, int]) -> str:
    return tables.prompts.decode([token for token in batch.answers[at].tolist() if token >= 0])


def shown_things(batch: StockBatch, at: tuple[int, int]) -> list[int]:
    """By kept segment that shows something: what it shows, as a number for thing and colour."""
    of_video = batch.moments.shape[1] * at[0]
    scenes = [of_video + int(s) for s, kept in zip(batch.sources[at], batch.kept[at], strict=True) if kept.any()]
    return [int(batch.scenes.thing[i] * 10 + batch.scenes.colour[i]) for i in scenes if batch.scenes.thing[i] >= 0]


@pytest.mark.parametrize("kind", ["short", "long"])
def test_questions_about_moments_and_about_whole_videos_are_both_asked(
    kind: str, tables: Tables, request: pytest.FixtureRequest
) -> None:
    batch: StockBatch = request.getfixturevalue(kind)
    assert 0.2 < len(asked(tables, batch, WHOLE_KINDS)) / batch.asked.numel() < 0.6


@pytest.mark.parametrize("kind", ["short", "long"])
def test_how_many_different_is_counted_in_the_frame_pairs_that_are_shown(
    kind: str, tables: Tables, request: pytest.FixtureRequest
) -> None:
    batch: StockBatch = request.getfixturevalue(kind)
    things = [at for at in asked(tables, batch, ["different"]) if " things" in tables.texts[int(batch.asked[at])]]
    assert things
    for at in things:
        assert said(tables, batch, at) == str(len(set(shown_things(batch, at))))


@pytest.mark.parametrize("kind", ["short", "long"])
def test_a_time_is_that_of_a_frame_pair_that_is_shown(
    kind: str, tables: Tables, request: pytest.FixtureRequest
) -> None:
    batch: StockBatch = request.getfixturevalue(kind)
    whens = asked(tables, batch, ["when"])
    assert whens
    for at in whens:
        kept = [int(row) for row, pairs in zip(batch.places[at], batch.kept[at], strict=True) if pairs.any()]
        spans = [(SCENE_LENGTHS_S[row // LONGEST_ROW], row % LONGEST_ROW) for row in kept]
        assert any(index * scene_s <= int(said(tables, batch, at)) < (index + 1) * scene_s for scene_s, index in spans)


def test_to_a_question_about_the_whole_every_segment_that_shows_something_is_relevant(
    tables: Tables, short: StockBatch
) -> None:
    shows = (short.scenes.thing >= 0).view(short.moments.shape)
    for video, place in asked(tables, short, WHOLE_KINDS):
        assert torch.equal(short.relevant[video, place], shows[video])


def test_what_is_needed_is_always_shown_and_the_rest_from_nothing_to_all() -> None:
    rng, needed = random.Random(1), [2, 5]
    drawn = [draw_kept(rng, needed, 8) for _ in range(300)]
    assert all(kept[needed].any(axis=1).all() for kept in drawn)
    shares = [float(kept.mean()) for kept in drawn]
    assert (min(shares), max(shares)) == (2 / (8 * PAIRS), 1.0)
    assert {round(share, 1) for share in shares} > {0.2, 0.4, 0.6, 0.8}


@pytest.mark.slow
def test_the_command_writes_a_stock_model_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STOCK_SCHEDULE", TINY)
    arguments = ["--stock", "--out", str(tmp_path), "--state", str(tmp_path / "s.pt"), "--log", str(tmp_path / "log")]
    assert main([*arguments, "--eager", "--workers", "0"]) == 0
    assert isinstance(load_checkpoint(tmp_path / "nano-vl"), StockCheckpoint)
