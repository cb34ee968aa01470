"""A stock Qwen3-VL as it is published: however its weights lie it is the same model, and what is wrong is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tempo_core import load_checkpoint
from tempo_core.errors import CheckpointError, UsageError
from tempo_core.model_identity import identify_checkpoint
from tempo_core.spec import PAPER
from tempo_core.stock_checkpoint import StockCheckpoint
from tempo_core.values import FloatArray
from tests.support.altered_checkpoints import EMBEDDINGS, Tensors, edit_config, edit_tensors, shard
from tests.support.golden_cases import BASE, golden_checkpoint, small_segment, stock_checkpoint

QUESTION = "What is this?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy to be altered."""
    return Path(shutil.copytree(BASE, tmp_path / "qwen3-vl"))


def loaded(folder: Path) -> StockCheckpoint:
    checkpoint = load_checkpoint(folder)
    assert isinstance(checkpoint, StockCheckpoint)
    return checkpoint


def behaviour(checkpoint: StockCheckpoint) -> FloatArray:
    """The score of one small segment and the first answer logits."""
    states = checkpoint.router.encode([small_segment()])
    logits = checkpoint.reader.next_logits(checkpoint.reader.prompt(QUESTION, states))
    return np.concatenate([checkpoint.router.relevance(states, QUESTION), logits])


def test_sharded_weights_are_the_same_model(folder: Path) -> None:
    shard(folder)
    # where in memory weights lie may move the last bit of a product
    np.testing.assert_allclose(behaviour(loaded(folder)), behaviour(stock_checkpoint()), rtol=0, atol=1e-6)


def test_an_lm_head_of_its_own_is_used_where_the_config_ties_none(folder: Path) -> None:
    def doubled(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = 2 * tensors[EMBEDDINGS]

    edit_tensors(folder, doubled)
    edit_config(folder, tie_word_embeddings=False)
    ours, tied = behaviour(loaded(folder)), behaviour(stock_checkpoint())
    np.testing.assert_allclose(ours[1:], 2 * tied[1:], rtol=1e-5)
    odds = ours[0] / (1 - ours[0])
    assert odds == pytest.approx((tied[0] / (1 - tied[0])) ** 2, rel=1e-4)


def test_it_is_identified_without_being_loaded(folder: Path) -> None:
    assert identify_checkpoint(folder).fingerprints(PAPER) == loaded(folder).fingerprints(PAPER)


def test_its_routing_prompt_is_part_of_its_features_alone() -> None:
    stock, tempo = stock_checkpoint(), golden_checkpoint()
    assert stock.family.routing != tempo.family.routing
    ours = stock.fingerprints(PAPER)
    assert ours.frames == tempo.fingerprints(PAPER).frames
    assert ours.features != tempo.fingerprints(PAPER).features


@pytest.mark.parametrize("name", ["model.visual.pos_embed.weight", "model.language_model.norm.weight"])
def test_a_missing_tensor_is_named(folder: Path, name: str) -> None:
    edit_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=f"missing tensor {name}"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["model.visual.extra.weight", "model.mm_projector.weight"])
def test_an_extra_tensor_is_named(folder: Path, name: str) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({name: tensors[EMBEDDINGS].clone()}))
    with pytest.raises(CheckpointError, match=f"extra tensor {name}"):
        load_checkpoint(folder)


def test_an_lm_head_that_is_missing_is_named(folder: Path) -> None:
    edit_config(folder, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"missing tensor lm_head\.weight"):
        load_checkpoint(folder)


def test_an_lm_head_of_another_shape_is_refused(folder: Path) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": tensors[EMBEDDINGS][:5].clone()}))
    edit_config(folder, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight has shape \[5, 64\], the config asks for \[470, 64\]"):
        load_checkpoint(folder)


def test_a_head_of_its_own_is_read_though_the_config_ties_it_as_transformers_does(folder: Path) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": 2 * tensors[EMBEDDINGS]}))
    np.testing.assert_allclose(behaviour(loaded(folder))[1:], 2 * behaviour(stock_checkpoint())[1:], rtol=1e-5)


def test_without_a_generation_config_the_chats_end_of_turn_ends_an_answer(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    reader = loaded(folder).reader
    assert reader._prompts.token_id("<|im_end|>") in reader._stop_ids


@pytest.mark.parametrize("eos", ["abc", {}, [[1]], True])
def test_an_end_of_sequence_that_is_no_token_is_named(eos: object, folder: Path) -> None:
    edit_config(folder, "generation_config.json", eos_token_id=eos)
    with pytest.raises(CheckpointError, match=r"generation_config\.json: eos_token_id is"):
        load_checkpoint(folder)


def test_it_takes_no_base(folder: Path) -> None:
    with pytest.raises(UsageError, match="it takes no base"):
        load_checkpoint(folder, base=BASE)


def test_a_model_of_another_kind_is_refused_with_what_can_be_used(folder: Path) -> None:
    edit_config(folder, model_type="internvl")
    with pytest.raises(CheckpointError, match=r"'internvl'.*qwen3_vl"):
        load_checkpoint(folder)
