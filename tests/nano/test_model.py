"""What is trained is what inference computes: the same prompts, scores, memory tokens and logits."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from nano.batches import Batch, draw_batch
from nano.checkpoint import SHARD_BYTES, write_checkpoint
from nano.losses import Losses
from nano.model import GRID, NanoModel, patchify
from nano.prompting import PromptTables, prompt_embeds
from nano.render import render, sampled_moments
from nano.segment_batches import BatchShape
from nano.sizes import NANO
from nano.tables import PAIRS, Tables
from nano.world import LONGEST_ROW, SCENE_LENGTHS_S, SEGMENT_FRAMES
from tempo_core import SegmentPixels, SegmentState, load_checkpoint
from tempo_core import pixels as inference
from tempo_core.states import unpack_rows
from tempo_core.tempo_checkpoint import TempoCheckpoint, require_tempo
from tempo_core.weights import WeightFiles
from tests.support.golden_cases import BASE, TEMPO

SEGMENTS, QUESTIONS, ASKED = 6, 3, 1
COUNTS = (3, 0, NANO.memory_tokens, 5, 1, 2)


@dataclass(frozen=True)
class Both:
    """The same random weights in training and in inference, and a video's frames [B, 8, E, E, 3] as bytes."""

    folder: Path
    losses: Losses
    tables: Tables
    checkpoint: TempoCheckpoint
    batch: Batch
    frames: torch.Tensor
    states: list[SegmentState]

    @property
    def question(self) -> str:
        return self.tables.texts[int(self.batch.texts[0, ASKED])]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("nano")
    torch.manual_seed(1)
    tables = Tables(tmp_path_factory.mktemp("tokenizer"))
    losses = Losses(NanoModel(), tables, "cpu")
    checkpoint = require_tempo(load_checkpoint(write_checkpoint(losses.model, folder, torch.float32)))
    batch = draw_batch(random.Random(1), BatchShape(1, SEGMENTS, QUESTIONS), tables)
    frames = (render(batch.scenes, sampled_moments()) * 255).round().to(torch.uint8)
    pixels = [
        SegmentPixels(*inference.patchify(frames[i].numpy()), pair_times(int(row)))
        for i, row in enumerate(batch.moments[0])
    ]
    return Both(folder, losses, tables, checkpoint, batch, frames, checkpoint.compressor.encode(pixels))


def start_s(row: int) -> float:
    return float(SCENE_LENGTHS_S[row // LONGEST_ROW] * (row % LONGEST_ROW))


def pair_times(row: int) -> tuple[float, ...]:
    step = SCENE_LENGTHS_S[row // LONGEST_ROW] / SEGMENT_FRAMES
    return tuple(start_s(row) + step * (2 * pair + 0.5) for pair in range(PAIRS))


def tag_times(both: Both) -> list[float]:
    return [start_s(row) + SCENE_LENGTHS_S[row // LONGEST_ROW] / 2 for row in both.batch.moments[0].tolist()]


def furthest(ours: torch.Tensor, theirs: object) -> float:
    return float((ours - torch.as_tensor(theirs)).abs().max())


@torch.no_grad()
def trained_reading(both: Both) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [B] and memory tokens [B, K, D] of one question, as training computes them."""
    losses, model = both.losses, both.losses.model
    states = model.encode(patchify(both.frames.float() / 255))
    prefix, lengths, positions = losses.prefill(both.batch, states)
    suffix = losses.suffix(both.batch)
    hidden = model.read(prefix, lengths, positions, suffix)
    scores = torch.sigmoid(suffix.last(hidden) @ model.relevance_direction).view(SEGMENTS, QUESTIONS)
    memory = suffix.memory(hidden, NANO.memory_tokens).unflatten(0, (SEGMENTS, QUESTIONS))
    return scores[:, ASKED], memory[:, ASKED]


def test_patches_are_those_of_inference(both: Both) -> None:
    theirs = torch.from_numpy(inference.patchify(both.frames[0].numpy())[0]).float() / 127.5 - 1
    assert furthest(patchify(both.frames[:1].float() / 255)[0].flatten(0, 1), theirs) < 1e-6


@torch.no_grad()
def test_visual_states_are_those_of_inference(both: Both) -> None:
    ours = both.losses.model.encode(patchify(both.frames.float() / 255))
    theirs = [unpack_rows(state, torch.device("cpu"), torch.float32) for state in both.states]
    assert furthest(ours, torch.stack(theirs)) < 2e-5


def test_scores_and_memory_tokens_are_those_of_inference(both: Both) -> None:
    scores, memory = trained_reading(both)
    read = both.checkpoint.compressor.read(both.states, both.question)
    theirs = both.checkpoint.compressor.compress(read, both.question, [NANO.memory_tokens] * SEGMENTS)
    assert furthest(scores, read.scores) < 1e-5
    assert furthest(memory, np.stack(theirs)) < 1e-4


@torch.no_grad()
def test_the_answering_prompt_is_that_of_inference(both: Both) -> None:
    model, batch = both.losses.model, both.batch
    _, memory = trained_reading(both)
    packed = PromptTables(both.tables, "cpu").pack(
        batch.texts[:, ASKED],
        batch.moments,
        torch.zeros_like(batch.titles),
        torch.tensor([COUNTS]),
        batch.answers[:, ASKED],
        NANO.memory_tokens,
        width=240,
    )
    ours = prompt_embeds(model.llm.model.embed_tokens, packed, model.projector(memory[None]))
    kept = [tokens[:count] for tokens, count in zip(memory, COUNTS, strict=True)]
    theirs = both.checkpoint.answerer.prompt(both.question, tag_times(both), kept)
    assert int(packed.answer_starts[0]) == len(theirs)
    assert furthest(ours[0, : len(theirs)], theirs.embeds) < 1e-4
    logits = model.llm.lm_head(model.answer(ours)[0, len(theirs) - 1])
    assert furthest(logits, both.checkpoint.answerer.next_logits(theirs)) < 1e-4


@torch.no_grad()
def test_a_segment_that_is_left_out_leaves_no_trace_in_the_prompt(both: Both) -> None:
    counts = torch.tensor([[2, -1, 2, -1, -1, 0]])
    batch = both.batch
    args = (batch.texts[:, ASKED], batch.moments, torch.zeros_like(batch.titles))
    packed = PromptTables(both.tables, "cpu").pack(*args, counts, batch.answers[:, ASKED], NANO.memory_tokens, 240)
    kept = [i for i, count in enumerate(counts[0].tolist()) if count >= 0]
    memory = [torch.zeros(int(counts[0, i]), NANO.hidden) for i in kept]
    theirs = both.checkpoint.answerer.prompt(both.question, [tag_times(both)[i] for i in kept], memory)
    assert int(packed.answer_starts[0]) == len(theirs)


def test_the_title_of_a_video_stands_before_its_first_segment(both: Both) -> None:
    titles = torch.tensor([[1, 0, 0, 2, 0, 0]])
    batch, counts = both.batch, torch.ones(1, SEGMENTS, dtype=torch.long)
    packed = PromptTables(both.tables, "cpu").pack(
        batch.texts[:, ASKED], batch.moments, titles, counts, batch.answers[:, ASKED], NANO.memory_tokens, 240
    )
    names = {0: "gate-00.mp4", 3: "gate-03.mp4"}
    memory = [torch.zeros(1, NANO.hidden)] * SEGMENTS
    theirs = both.checkpoint.answerer.prompt(both.question, tag_times(both), memory, names)
    assert int(packed.answer_starts[0]) == len(theirs)


# --- the checkpoint --------------------------------------------------------------------------------------------------


def test_its_tensors_have_the_published_names(both: Both) -> None:
    def pattern(names: list[str]) -> set[str]:
        return {"".join("N" if part.isdigit() else part for part in name.split(".")) for name in names}

    ours = pattern(WeightFiles(both.folder / "tempo-nano").names())
    assert ours == pattern(WeightFiles(TEMPO).names())
    assert set(WeightFiles(both.folder / "tempo-nano-base").names()) <= set(WeightFiles(BASE).names())


def test_in_bfloat16_it_stays_small_in_shards(both: Both, tmp_path: Path) -> None:
    write_checkpoint(both.losses.model, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 30e6
    assert max(path.stat().st_size for path in files) < SHARD_BYTES + 100_000
    assert require_tempo(load_checkpoint(tmp_path / "tempo-nano")).compressor.max_memory_tokens == NANO.memory_tokens


def test_a_second_writing_leaves_no_shard_of_the_first(both: Both, tmp_path: Path) -> None:
    twice, once = tmp_path / "twice", tmp_path / "once"
    write_checkpoint(both.losses.model, twice, torch.float32)
    for folder in (twice, once):
        write_checkpoint(both.losses.model, folder)
    assert {path.relative_to(twice) for path in twice.rglob("*")} == {
        path.relative_to(once) for path in once.rglob("*")
    }


def test_its_frames_are_small_whatever_their_form(both: Both) -> None:
    from tempo_core.geometry import frame_size, visual_tokens

    sizes = [frame_size(*size, both.checkpoint.geometry) for size in ((1920, 1080), (640, 480), (192, 192), (40, 30))]
    assert [visual_tokens(*size) for size in sizes] == [6, 6, 9, 6]


def test_weights_of_the_base_are_its_embeddings(both: Both) -> None:
    with safe_open(both.folder / "tempo-nano-base" / "model.safetensors", "pt") as file:
        (name,) = file.keys()
        assert file.get_tensor(name).shape == both.losses.model.get_buffer("base_embed").shape


def test_every_layer_runs_as_it_was_optimized() -> None:
    calls: list[str] = []

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.append(function.__name__)
            return function(*arguments, **named)

        return call

    model = NanoModel(counted)
    model.head(torch.zeros(3, dtype=torch.long))
    model.encode(torch.zeros(1, 1, GRID**2, 1536))
    assert calls == ["decoder_layer"] * NANO.layers + ["vision_block"] * NANO.vision_depth
