"""A config that asks for more than its weights have is refused at once: nothing of that size is ever made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tempo_core import load_checkpoint
from tempo_core.errors import CheckpointError
from tests.support.altered_checkpoints import Copy, edit_config


@pytest.mark.parametrize(
    ("section", "key", "value", "found"),
    [
        ("", "num_hidden_layers", 100_000, 3),
        ("", "num_hidden_layers", 10**12, 3),
        ("", "hidden_size", 10**12, 96),
        ("", "vocab_size", 10**15, 470),
        ("", "head_dim", 10**9, 32),
        ("", "num_attention_heads", 10**9, 128),
        ("text_config", "num_hidden_layers", 100_000, 4),
        ("text_config", "intermediate_size", 10**15, 128),
        ("text_config", "num_key_value_heads", 10**9, 64),
        ("vision_config", "depth", 100_000, 4),
        ("vision_config", "num_position_embeddings", 10**15, 64),
        ("vision_config", "deepstack_visual_indexes", [0] * 50_000, 3),
    ],
)
def test_a_config_that_asks_for_more_than_the_weights_have_is_refused_before_anything_is_built(
    section: str, key: str, value: Any, found: int, copy: Copy
) -> None:
    folder = copy.base if section else copy.tempo
    sizes = json.loads((folder / "config.json").read_text()).get(section, {})
    edit_config(folder, **{section: sizes | {key: value}} if section else {key: value})
    asked = rf"{section}\.?{key} {len(value) if isinstance(value, list) else value};"
    with pytest.raises(
        CheckpointError, match=rf"{copy.tempo}: tensor .* room for {found}.*, the config asks for {asked}"
    ):
        load_checkpoint(copy.tempo)


@pytest.mark.parametrize("section", ["text_config", "vision_config"])
def test_names_of_classes_are_not_made(section: str, copy: Copy) -> None:
    sizes = json.loads((copy.base / "config.json").read_text())[section]
    edit_config(copy.base, **{section: sizes | {"num_labels": 10**12}})
    edit_config(copy.tempo, num_labels=10**12)
    load_checkpoint(copy.tempo)


@pytest.mark.parametrize("section", ["text_config", "vision_config"])
def test_a_stock_model_is_held_to_its_weights_too(section: str, copy: Copy) -> None:
    key = {"text_config": "num_hidden_layers", "vision_config": "depth"}[section]
    config = json.loads((copy.base / "config.json").read_text())
    edit_config(copy.base, **{section: config[section] | {key: 100_000}})
    with pytest.raises(CheckpointError, match=f"asks for {section}.{key} 100000"):
        load_checkpoint(copy.base)
