"""Loading a Tempo checkpoint: every published variation of the layout, one clear error for all else, no code run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tempo_core import load_checkpoint
from tempo_core.errors import CheckpointError, UsageError
from tempo_core.spec import PAPER
from tempo_core.tempo_checkpoint import require_tempo
from tempo_core.values import FloatArray
from tests.support.altered_checkpoints import (
    EMBEDDINGS,
    MEMORY_TOKENS,
    PROJECTOR,
    TEXT,
    VISION,
    Copy,
    Tensors,
    behaviour,
    edit_config,
    edit_index,
    edit_tensors,
    shard,
)
from tests.support.golden_cases import BASE, TEMPO, golden_case, golden_checkpoint, golden_prefix, golden_states


@pytest.fixture(scope="module")
def golden_behaviour() -> FloatArray:
    return behaviour(golden_checkpoint())


# --- variations of the published layout ------------------------------------------------------------------------------


def as_published(copy: Copy) -> None:
    """The copy as it is."""


def shard_all(copy: Copy) -> None:
    shard(copy.tempo, 3)
    shard(copy.base, 2)


def base_inside(copy: Copy) -> None:
    shutil.move(copy.base, copy.tempo / copy.base.name)


def base_by_absolute_path(copy: Copy) -> None:
    elsewhere = copy.tempo / "far" / "away"
    elsewhere.parent.mkdir()
    shutil.move(copy.base, elsewhere)
    edit_config(copy.tempo, mm_vision_tower_aux_list=[str(elsewhere)])


def base_with_its_own_head(copy: Copy) -> None:
    edit_tensors(copy.base, lambda tensors: tensors.update({"lm_head.weight": tensors[EMBEDDINGS].clone()}))
    edit_config(copy.base, tie_word_embeddings=False)


def config_says_bfloat16(copy: Copy) -> None:
    edit_config(copy.tempo, dtype="bfloat16")
    edit_config(copy.tempo, torch_dtype="bfloat16")
    config = json.loads((copy.base / "config.json").read_text())
    parts = {name: config[name] | {"dtype": "bfloat16"} for name in ("text_config", "vision_config")}
    edit_config(copy.base, dtype="bfloat16", **parts)


def config_of_newer_transformers(copy: Copy) -> None:
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    edit_config(copy.tempo, rope_theta=None, rope_scaling=None, rope_parameters=rope)


def config_names_a_kernel_of_the_hub(copy: Copy) -> None:
    kernel = {"attn_implementation": "someone/kernel", "_attn_implementation": "someone/kernel"}
    edit_config(copy.tempo, **kernel)
    config = json.loads((copy.base / "config.json").read_text())
    edit_config(copy.base, text_config=config["text_config"] | kernel, vision_config=config["vision_config"] | kernel)


def default_projector_is_named(copy: Copy) -> None:
    edit_config(copy.tempo, mm_projector_type="mlp2x_gelu")


VARIATIONS = [
    as_published,
    shard_all,
    base_inside,
    base_by_absolute_path,
    base_with_its_own_head,
    config_says_bfloat16,
    config_of_newer_transformers,
    config_names_a_kernel_of_the_hub,
    default_projector_is_named,
]


@pytest.mark.parametrize("vary", VARIATIONS)
def test_variation_of_the_layout_computes_the_same(
    vary: Callable[[Copy], None], copy: Copy, golden_behaviour: FloatArray
) -> None:
    vary(copy)
    np.testing.assert_allclose(behaviour(load_checkpoint(copy.tempo)), golden_behaviour, rtol=0, atol=1e-5)


def test_base_can_be_given(copy: Copy, golden_behaviour: FloatArray) -> None:
    shutil.rmtree(copy.base)
    with pytest.raises(CheckpointError, match="no checkpoint at tiny-qwen3-vl"):
        load_checkpoint(copy.tempo)
    ours = behaviour(load_checkpoint(str(copy.tempo), base=BASE))
    np.testing.assert_allclose(ours, golden_behaviour, rtol=0, atol=1e-5)


def test_tied_llm_may_come_without_its_head(copy: Copy) -> None:
    edit_config(copy.tempo, tie_word_embeddings=True)
    tied_in_the_file = behaviour(load_checkpoint(copy.tempo))
    edit_tensors(copy.tempo, lambda tensors: tensors.pop("lm_head.weight"))
    np.testing.assert_allclose(behaviour(load_checkpoint(copy.tempo)), tied_in_the_file, rtol=0, atol=1e-5)
    llm = require_tempo(load_checkpoint(copy.tempo)).answerer._llm
    assert llm.lm_head.weight is llm.model.embed_tokens.weight


def test_relevance_reads_the_bases_own_head_where_it_is_not_tied(copy: Copy) -> None:
    def add_head(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = 2 * tensors[EMBEDDINGS]

    edit_tensors(copy.base, add_head)
    edit_config(copy.base, tie_word_embeddings=False)
    doubled = require_tempo(load_checkpoint(copy.tempo)).compressor.relevance(
        golden_states("d"), golden_case("d").question
    )
    odds = golden_case("d").scores / (1 - golden_case("d").scores)
    np.testing.assert_allclose(doubled / (1 - doubled), odds**2, rtol=1e-4)


def test_linear_projector_has_no_number_in_its_names(copy: Copy) -> None:
    def flatten(tensors: Tensors) -> None:
        for name in ("weight", "bias"):
            tensors[PROJECTOR + name] = tensors.pop(f"{PROJECTOR}0.{name}")
            tensors.pop(f"{PROJECTOR}2.{name}")

    edit_tensors(copy.tempo, flatten)
    edit_config(copy.tempo, mm_projector_type="linear")
    assert np.isfinite(behaviour(load_checkpoint(copy.tempo))).all()


def test_bfloat16_gives_scores_near_those_of_float32() -> None:
    compressor = golden_checkpoint("bfloat16").compressor
    scores = compressor.relevance(compressor.encode(golden_case("d").segments), golden_case("d").question)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, golden_case("d").scores, rtol=0, atol=0.02)


def test_checkpoint_stored_in_bfloat16_loads_in_either_type(copy: Copy) -> None:
    edit_tensors(copy.tempo, lambda tensors: tensors.update({name: one.bfloat16() for name, one in tensors.items()}))
    for dtype in ("float32", "bfloat16"):
        score = behaviour(load_checkpoint(copy.tempo, dtype=dtype))[0]
        assert abs(score - behaviour(golden_checkpoint())[0]) < 0.02


def test_id_is_the_name_it_was_asked_by() -> None:
    assert golden_checkpoint().id == str(TEMPO)


# --- identity --------------------------------------------------------------------------------------------------------


def nudge(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors[name].view(-1)[:1].add_(1e-2)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        (VISION + "patch_embed.proj.weight", {"states", "features"}),
        (TEXT + "norm.weight", {"features"}),
        (MEMORY_TOKENS, set()),
        ("lm_head.weight", set()),
        ("model.norm.weight", set()),
        (PROJECTOR + "0.bias", set()),
    ],
)
def test_changed_weights_change_what_depends_on_them(name: str, changed: set[str], copy: Copy) -> None:
    edit_tensors(copy.tempo, nudge(name))
    before, after = golden_checkpoint().fingerprints(PAPER), load_checkpoint(copy.tempo).fingerprints(PAPER)
    links = ("frames", "states", "features")
    assert {link for link in links if getattr(before, link) != getattr(after, link)} == changed


def test_fingerprints_depend_on_neither_place_nor_shards_nor_dtype(copy: Copy) -> None:
    shard(copy.tempo)
    prints = golden_checkpoint().fingerprints(PAPER)
    assert load_checkpoint(copy.tempo).fingerprints(PAPER) == prints
    assert golden_checkpoint("bfloat16").fingerprints(PAPER) == prints


def test_hashes_are_remembered_until_a_file_changes(
    copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = load_checkpoint(copy.tempo)
    cache = tmp_path / "cache" / "tempo" / "weight-hashes.json"
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: ["a" * 64, "b" * 64]}))
    assert load_checkpoint(copy.tempo).vision_sha256 == "a" * 64  # read from there, not computed again
    os.utime(copy.tempo / "model.safetensors", ns=(1, 1))
    again = load_checkpoint(copy.tempo)
    assert (again.vision_sha256, again.text_sha256) == (first.vision_sha256, first.text_sha256)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_broken_cache_of_hashes_costs_time_only(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tempo").mkdir()
    (tmp_path / "tempo" / "weight-hashes.json").write_text(content)
    assert load_checkpoint(TEMPO).vision_sha256 == golden_checkpoint().vision_sha256


def test_cache_of_hashes_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_checkpoint(TEMPO).text_sha256 == golden_checkpoint().text_sha256


def test_prefixes_of_an_equal_checkpoint_can_be_shared(copy: Copy) -> None:
    scores = require_tempo(load_checkpoint(copy.tempo)).compressor.relevance(
        golden_prefix("d"), golden_case("d").question
    )
    np.testing.assert_allclose(scores, golden_case("d").scores, atol=1e-5)


def test_device_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match="no device 'gpu'"):
        load_checkpoint(TEMPO, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(CheckpointError, match="use the device cpu"):
            load_checkpoint(TEMPO, device="cuda")


def test_missing_index_entry_is_a_missing_tensor(copy: Copy) -> None:
    shard(copy.tempo)
    edit_index(copy.tempo, lambda mapping: mapping.pop(TEXT + "norm.weight"))
    with pytest.raises(CheckpointError, match=rf"missing tensor {TEXT}norm\.weight"):
        load_checkpoint(copy.tempo)
