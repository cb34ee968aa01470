"""Loading a stock Qwen3-VL: the small vision-language model as it is published, which routes and reads by itself.

<checkpoint>/config.json        Qwen3VLConfig
model.visual.*                  vision tower
model.language_model.*          text model
lm_head.weight                  not there where it is tied to the embeddings
tokenizer.json, chat template, generation_config.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from tempo_core import modules
from tempo_core.checkpoint_config import svlm_config
from tempo_core.checkpoint_parts import (
    Checkpoint,
    Target,
    load_svlm,
    relevance_direction,
    require_finite,
    stop_ids,
)
from tempo_core.errors import CheckpointError
from tempo_core.model_identity import QWEN3_VL, ModelIdentity
from tempo_core.prompt_loading import load_prompts
from tempo_core.router import Router
from tempo_core.state_reader import StateReader
from tempo_core.weights import WeightFiles

_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class StockCheckpoint(Checkpoint):
    """Its own text model reads what it routed."""

    reader: StateReader


def load_stock(identity: ModelIdentity, weights: WeightFiles, target: Target) -> StockCheckpoint:
    """CheckpointError as ``load_checkpoint``."""
    folder, config = weights.folder, svlm_config(weights.folder)
    weights.refuse_others({_HEAD}, (QWEN3_VL.vision, QWEN3_VL.text))
    vision, text = load_svlm(weights, QWEN3_VL, config, target)
    head = _head(weights, config, text, target)
    prompts = load_prompts(folder, QWEN3_VL.routing)
    router = Router(vision, text, relevance_direction(head, prompts), prompts)
    require_finite(router, folder)
    stops = stop_ids(_end_of_sequence(weights, config), prompts)
    context, merge = int(config.text_config.max_position_embeddings), int(config.vision_config.spatial_merge_size)
    reader = StateReader(modules.CausalModel(text, head), prompts, context, stops, merge)
    return StockCheckpoint(**vars(identity), router=router, reader=reader)


def _head(weights: WeightFiles, config: Any, text: torch.nn.Module, target: Target) -> torch.Tensor:
    """lm_head [vocabulary, D]."""
    embeddings: torch.Tensor = text.embed_tokens.weight  # type: ignore[assignment, union-attr]
    if config.tie_word_embeddings and _HEAD not in weights.names():  # where there is one, transformers reads it too
        return embeddings
    ((_, head),) = weights.tensors([_HEAD])
    if head.shape != embeddings.shape:
        raise CheckpointError(
            f"{weights.folder}: tensor {_HEAD} has shape {list(head.shape)}, the config asks for "
            f"{list(embeddings.shape)}"
        )
    return head.to(device=target.device, dtype=target.dtype)


def _end_of_sequence(weights: WeightFiles, config: Any) -> Any:
    """Where there is a generation_config.json, it decides."""
    path = weights.folder / "generation_config.json"
    if not path.is_file():
        return getattr(config.text_config, "eos_token_id", None)
    try:
        eos = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not all(one is None or type(one) is int for one in (eos if isinstance(eos, list) else [eos])):
        raise CheckpointError(f"{path}: eos_token_id is {eos!r}, not a token's number or a list of them")
    return eos
