"""Loading a Tempo checkpoint of the published layout.

<checkpoint>/config.json                      the answering LLM (Qwen3 fields) and the names of its parts
model.* , lm_head.*                           the LLM
model.mm_projector.*                          SVLM hidden -> LLM hidden
model.vision_tower_aux_list.0.vlm.model.*     the fine-tuned SVLM, without lm_head
model.vision_tower_aux_list.0.compression_tokens   (1, memory tokens, SVLM hidden)
<base>/                                       tokenizer, chat template and lm_head of the SVLM it began as
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config

from tempo_core import modules
from tempo_core.answerer import Answerer
from tempo_core.checkpoint_config import context_tokens, llm_config, min_tokens, svlm_config
from tempo_core.checkpoint_parts import (
    Checkpoint,
    Target,
    load_svlm,
    relevance_direction,
    require_finite,
    stop_ids,
)
from tempo_core.compressor import Compressor
from tempo_core.errors import CheckpointError
from tempo_core.model_identity import TEMPO, TOWER, ModelIdentity
from tempo_core.prompt_loading import load_prompts
from tempo_core.weights import WeightFiles, read_config

_MEMORY_TOKENS = TOWER + "compression_tokens"
_PROJECTOR = "model.mm_projector."


@dataclass(frozen=True)
class TempoCheckpoint(Checkpoint):
    """``router`` also compresses, ``reader`` takes its memory tokens; each segment keeps ``min_tokens``."""

    router: Compressor
    reader: Answerer
    min_tokens: int

    @property
    def compressor(self) -> Compressor:
        return self.router

    @property
    def answerer(self) -> Answerer:
        return self.reader


def require_tempo(checkpoint: Checkpoint) -> TempoCheckpoint:
    """The same; CheckpointError for a model without memory tokens."""
    if not isinstance(checkpoint, TempoCheckpoint):
        raise CheckpointError(f"{checkpoint.id} has no memory tokens; give a checkpoint of Tempo's layout")
    return checkpoint


def load_tempo(identity: ModelIdentity, weights: WeightFiles, base: Path, target: Target) -> TempoCheckpoint:
    """``base``: the folder of the SVLM that it began as. CheckpointError as ``load_checkpoint``."""
    config = read_config(weights.folder)
    svlm, llm = svlm_config(base), llm_config(config, weights.folder)
    own = {name for name, _ in modules.language_model(llm).named_parameters()}
    weights.refuse_others({*own, _MEMORY_TOKENS, "lm_head.weight"}, (TEMPO.vision, TEMPO.text, _PROJECTOR))
    compressor = _load_compressor(weights, svlm, base, target)
    require_finite(compressor, weights.folder)
    projector = _projector(weights, config, (svlm.text_config.hidden_size, llm.hidden_size), target)
    answerer = _load_answerer(weights, llm, projector, context_tokens(config, llm, weights.folder), target)
    kept = min(min_tokens(config, weights.folder), compressor.max_memory_tokens)
    return TempoCheckpoint(**vars(identity), router=compressor, reader=answerer, min_tokens=kept)


def _load_compressor(weights: WeightFiles, config: Any, base: Path, target: Target) -> Compressor:
    vision, text = load_svlm(weights, TEMPO, config, target)
    memory = _memory_tokens(weights, config.text_config.hidden_size).to(device=target.device, dtype=target.dtype)
    prompts = load_prompts(base, TEMPO.routing)
    direction = relevance_direction(_base_head(base, config), prompts).to(target.device)
    return Compressor(vision, text, memory, direction, prompts)


def _memory_tokens(weights: WeightFiles, hidden_size: int) -> torch.Tensor:
    """[memory tokens, SVLM hidden]."""
    ((_, memory),) = weights.tensors([_MEMORY_TOKENS])
    if memory.ndim != 3 or memory.shape[0] != 1 or memory.shape[2] != hidden_size:
        raise CheckpointError(
            f"{weights.folder}: tensor {_MEMORY_TOKENS} has shape {list(memory.shape)}, "
            f"the config asks for [1, memory tokens, {hidden_size}]"
        )
    return memory[0]


def _base_head(base: Path, config: Any) -> torch.Tensor:
    """The base's lm_head [vocabulary, SVLM hidden], which is tied to its embeddings in the small ones."""
    weights, head_name = WeightFiles(base), "lm_head.weight"
    if config.tie_word_embeddings and head_name not in weights.names():
        head_name = "model.language_model.embed_tokens.weight"
    ((_, head),) = weights.tensors([head_name])
    if head.ndim != 2 or head.shape[1] != config.text_config.hidden_size:
        raise CheckpointError(f"{base}: tensor {head_name} has shape {list(head.shape)}, not what the config asks for")
    return head


def _load_answerer(
    weights: WeightFiles, config: Qwen3Config, projector: torch.nn.Module, context_tokens: int, target: Target
) -> Answerer:
    llm = modules.language_model(config)
    tied = frozenset({"lm_head.weight"}) if config.tie_word_embeddings else frozenset()
    modules.fill(llm, weights, "", target.dtype, target.device, optional=tied)
    if tied:
        llm.tie_weights()  # type: ignore[operator]
    prompts = load_prompts(weights.folder)
    return Answerer(llm, projector, prompts, context_tokens, stop_ids(config.eos_token_id, prompts))


def _projector(weights: WeightFiles, config: dict[str, Any], sizes: tuple[int, int], target: Target) -> torch.nn.Module:
    """``sizes``: the hidden sizes of the SVLM and the LLM."""
    try:
        projector = modules.projector(str(config.get("mm_projector_type", "linear")), *sizes)
    except ValueError as error:
        raise CheckpointError(f"{weights.folder / 'config.json'}: {error}") from error
    modules.fill(projector, weights, _PROJECTOR, target.dtype, target.device)
    return projector
