"""The sizes that a config asks for, held against the weights' headers before anything of such a size is made.

A config may come from anybody, and a module of 100,000 layers takes a minute to build even without its weights. Too
small a size does no harm: filling the modules names the tensor that does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tempo_core.errors import CheckpointError
from tempo_core.model_identity import TEMPO, Family
from tempo_core.weights import WeightFiles

LLM = "model."
_TEXT_STACKS = {"num_hidden_layers": "layers"}
_TEXT_SIZES = {
    "vocab_size": ("embed_tokens.weight", 0),
    "hidden_size": ("embed_tokens.weight", 1),
    "intermediate_size": ("layers.0.mlp.up_proj.weight", 0),
    "head_dim": ("layers.0.self_attn.q_norm.weight", 0),
    "num_attention_heads": ("layers.0.self_attn.q_proj.weight", 0),
    "num_key_value_heads": ("layers.0.self_attn.k_proj.weight", 0),
}
_VISION_STACKS = {"depth": "blocks", "deepstack_visual_indexes": "deepstack_merger_list"}
_VISION_SIZES = {
    "hidden_size": ("patch_embed.proj.weight", 0),
    "in_channels": ("patch_embed.proj.weight", 1),
    "intermediate_size": ("blocks.0.mlp.linear_fc1.weight", 0),
    "num_heads": ("blocks.0.attn.proj.weight", 0),
    "num_position_embeddings": ("pos_embed.weight", 0),
    "out_hidden_size": ("merger.linear_fc2.weight", 0),
}


@dataclass(frozen=True)
class _Model:
    """One of a checkpoint's models: where its tensors and its config are, and which of them tell its sizes.

    ``stacks``: the list of layers that a key counts, or names the members of. ``sizes``: a tensor, and the axis of it
    that is as long as a key says, or longer.
    """

    prefix: str
    section: str
    stacks: Mapping[str, str]
    sizes: Mapping[str, tuple[str, int]]


_ANSWERING = _Model(LLM, "", _TEXT_STACKS, _TEXT_SIZES)


def require_sizes(
    weights: WeightFiles, family: Family, config: Mapping[str, Any], base_config: Mapping[str, Any]
) -> None:
    """CheckpointError naming the first key of either config that asks for more than the weights have.

    ``base_config``: the SVLM's, which is the only one of a stock model.
    """
    if family == TEMPO:
        _require(weights, _ANSWERING, config)
    text = _Model(family.text, "text_config.", _TEXT_STACKS, _TEXT_SIZES)
    vision = _Model(family.vision, "vision_config.", _VISION_STACKS, _VISION_SIZES)
    for model in (text, vision):
        if isinstance(section := base_config.get(model.section.rstrip(".")), Mapping):
            _require(weights, model, section)


def _require(weights: WeightFiles, model: _Model, config: Mapping[str, Any]) -> None:
    for key, stack in model.stacks.items():
        prefix, asked = f"{model.prefix}{stack}.", config.get(key)
        found = len({name.removeprefix(prefix).partition(".")[0] for name in weights.names(prefix)})
        asked = len(asked) if isinstance(asked, list) else asked
        _refuse_more(weights, model, (key, asked), f"{prefix}* has room for {found}", found)
    for key, (name, axis) in model.sizes.items():
        if shape := weights.shape(model.prefix + name):
            found = shape[axis] if axis < len(shape) else 0
            room = f"{model.prefix}{name} has room for {found} (it is {shape})"
            _refuse_more(weights, model, (key, config.get(key)), room, found)


def _refuse_more(weights: WeightFiles, model: _Model, asked: tuple[str, Any], room: str, found: int) -> None:
    """``asked``: a key and its value; ``room``: the tensor that has it. What is no number is the parser's to refuse."""
    key, value = asked
    if isinstance(value, int) and value > found:
        raise CheckpointError(
            f"{weights.folder}: tensor {room}, the config asks for {model.section}{key} {value}; "
            "config and weights are not of one checkpoint: download them again"
        )
