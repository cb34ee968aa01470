"""What nano-vl is trained on is what inference computes of the stock layout: the same scores, prompts and logits."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from nano.checkpoint import SHARD_BYTES, write_stock
from nano.model import Svlm, patchify
from nano.render import render, sampled_moments
from nano.segment_batches import BatchShape
from nano.sizes import stock_config
from nano.stock_batches import StockBatch, draw_stock_batch
from nano.stock_losses import StockLosses
from nano.tables import Tables, pair_times
from nano.tokenizer import STOCK_WORDING
from nano.world import LONGEST_ROW, SCENE_LENGTHS_S
from tempo_core import SegmentPixels, SegmentState, load_checkpoint
from tempo_core import pixels as inference
from tempo_core.greedy import Prompt
from tempo_core.stock_checkpoint import StockCheckpoint

SEGMENTS, QUESTIONS = 5, 6


@dataclass(frozen=True)
class Both:
    """The same random weights in training and in inference, and a video's frames [B, 8, E, E, 3] as bytes."""

    folder: Path
    losses: StockLosses
    tables: Tables
    checkpoint: StockCheckpoint
    batch: StockBatch
    frames: torch.Tensor

    def states(self, rows: torch.Tensor, sources: torch.Tensor) -> list[SegmentState]:
        """Segments as they are stored, at the moments ``rows``."""
        pixels = [
            SegmentPixels(*inference.patchify(self.frames[source].numpy()), times_of(row))
            for row, source in zip(rows.tolist(), sources.tolist(), strict=True)
        ]
        return self.checkpoint.router.encode(pixels)

    def prompt(self, question: int, batch: StockBatch | None = None) -> Prompt:
        """As inference builds it of the frame pairs that are kept."""
        one = batch or self.batch
        text = self.tables.texts[int(one.asked[0, question])]
        states = self.states(one.places[0, question], one.sources[0, question])
        kept = [tuple(pairs.nonzero()[:, 0].tolist()) for pairs in one.kept[0, question]]
        chosen = [state.pairs(pairs) for state, pairs in zip(states, kept, strict=True) if pairs]
        return self.checkpoint.reader.prompt(text, chosen)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    torch.manual_seed(1)
    tables = Tables(tmp_path_factory.mktemp("tokenizer"), STOCK_WORDING)
    losses = StockLosses(Svlm(stock_config(), STOCK_WORDING), tables, "cpu")
    folder = write_stock(losses.model, tmp_path_factory.mktemp("nano"), torch.float32)
    checkpoint = load_checkpoint(folder)
    assert isinstance(checkpoint, StockCheckpoint)
    batch = draw_stock_batch(random.Random(1), BatchShape(1, SEGMENTS, QUESTIONS), tables)
    frames = (render(batch.scenes, sampled_moments()) * 255).round().to(torch.uint8)
    return Both(folder, losses, tables, checkpoint, batch, frames)


def times_of(row: int) -> tuple[float, ...]:
    return pair_times(SCENE_LENGTHS_S[row // LONGEST_ROW], row % LONGEST_ROW)


def furthest(ours: torch.Tensor, theirs: object) -> float:
    return float((ours - torch.as_tensor(theirs)).abs().max())


@torch.no_grad()
def test_scores_are_those_of_inference(both: Both) -> None:
    read = both.losses.read_segments(both.batch, patchify(both.frames.float() / 255))
    logits = read.suffix.last(read.hidden) @ both.losses.model.relevance_direction
    ours = torch.sigmoid(logits).view(SEGMENTS, QUESTIONS)
    states = both.states(both.batch.moments[0], torch.arange(SEGMENTS))
    for question in range(QUESTIONS):
        text = both.tables.texts[int(both.batch.texts[0, question])]
        assert furthest(ours[:, question], both.checkpoint.router.relevance(states, text)) < 1e-5


@torch.no_grad()
def assert_read_alike(both: Both, batch: StockBatch) -> None:
    losses = both.losses
    states = losses.model.encode(patchify(both.frames.float() / 255))
    packed = losses.pack(batch)
    hidden = losses.model.read_pairs(packed.ids, packed.positions, packed.visual, losses._of_rows(batch, states))
    for question in range(batch.asked.shape[1]):
        theirs = both.prompt(question, batch)
        assert int(packed.answer_starts[question]) == len(theirs)
        assert theirs.positions is not None
        assert torch.equal(packed.positions[:, question, : len(theirs)], theirs.positions)
        logits = losses.model.head_rows @ hidden[question, len(theirs) - 1]
        assert furthest(logits, both.checkpoint.reader.next_logits(theirs)) < 1e-4


def test_prompts_of_some_frame_pairs_are_read_as_inference_reads_them(both: Both) -> None:
    assert len({int(kept.sum()) for kept in both.batch.kept[0]}) > 2
    assert_read_alike(both, both.batch)


def test_long_prompts_repeat_segments_at_other_moments(both: Both) -> None:
    long = draw_stock_batch(random.Random(1), BatchShape(1, SEGMENTS, 2, long=24), both.tables)
    assert_read_alike(both, long)


def test_an_answer_stands_right_behind_its_prompt(both: Both) -> None:
    packed = both.losses.pack(both.batch)
    for ids, start, answer in zip(packed.ids, packed.answer_starts, both.batch.answers[0], strict=True):
        said = answer[answer >= 0]
        assert torch.equal(ids[int(start) : int(start) + len(said)], said)


# --- the checkpoint --------------------------------------------------------------------------------------------------


def test_in_bfloat16_it_stays_small_in_shards(both: Both, tmp_path: Path) -> None:
    folder = write_stock(both.losses.model, tmp_path)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert sum(sizes) <= 20e6
    assert max(sizes) < SHARD_BYTES + 100_000
    assert load_checkpoint(folder).state_hidden == both.checkpoint.state_hidden


def test_transformers_own_model_takes_its_folder_whole(both: Both) -> None:
    taken: Any = Qwen3VLForConditionalGeneration.from_pretrained(
        both.folder, dtype=torch.float32, output_loading_info=True
    )
    model, report = taken
    assert not report["missing_keys"] and not report["unexpected_keys"]
    np.testing.assert_array_equal(
        model.model.language_model.embed_tokens.weight.detach(), both.losses.model.head_rows.detach()
    )


def test_a_whole_video_fits_its_context(both: Both) -> None:
    reader, times = both.checkpoint.reader, times_of(Tables.moment(SCENE_LENGTHS_S[-1], LONGEST_ROW - 1))
    whole = LONGEST_ROW * sum(both.checkpoint.router.pair_tokens((1, 6, 6), time_s) for time_s in times)
    assert whole + reader.fixed_tokens("x" * 200) < reader.context_tokens
