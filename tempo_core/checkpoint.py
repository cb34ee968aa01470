"""Loading a Tempo checkpoint of the published layout.

<checkpoint>/config.json                      the answering LLM (Qwen3 fields) and the names of its parts
model.* , lm_head.*                           the LLM
model.mm_projector.*                          SVLM hidden -> LLM hidden
model.vision_tower_aux_list.0.vlm.model.*     the fine-tuned SVLM, without lm_head
model.vision_tower_aux_list.0.compression_tokens   (1, memory tokens, SVLM hidden)
<base>/                                       tokenizer, chat template and lm_head of the SVLM it began as
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from transformers import Qwen2Tokenizer, Qwen3Config

from tempo_core import modules
from tempo_core.answerer import Answerer
from tempo_core.checkpoint_config import (
    context_tokens,
    first_line,
    llm_config,
    min_tokens,
    svlm_config,
)
from tempo_core.checkpoint_sizes import require_sizes
from tempo_core.compressor import Compressor
from tempo_core.errors import CheckpointError, NotFinite, UsageError
from tempo_core.model_identity import TEXT, TOWER, VISION, ModelIdentity, find_folders, identity_of
from tempo_core.pixels import patchify
from tempo_core.prompts import LLM_SYSTEM, PromptEncoder
from tempo_core.values import SegmentPixels
from tempo_core.weights import WeightFiles, read_config, torch_dtype

_MEMORY_TOKENS = TOWER + "compression_tokens"
_PROJECTOR = "model.mm_projector."
_CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
_SVLM_TOKENS = (*_CHAT_TOKENS, "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "Yes", "No")


@dataclass(frozen=True)
class Checkpoint(ModelIdentity):
    """A loaded Tempo model. ``compressor`` reads videos, ``answerer`` answers; each segment keeps ``min_tokens``."""

    compressor: Compressor
    answerer: Answerer
    min_tokens: int


def load_checkpoint(
    path_or_hub_id: str | os.PathLike[str],
    base: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    may_fetch: bool = True,
) -> Checkpoint:
    """Loads a checkpoint from a folder or hub id; its base SVLM is ``base`` or the one its config names.

    ``dtype``: float32 or bfloat16, of weights and computation. Raises CheckpointError naming the missing or extra
    tensor, file or config key; NotFetched where it or its base would have to come from the hub and not ``may_fetch``.
    Only safetensors are read and no code of the checkpoint is run.
    """
    folder, config, base_folder = find_folders(path_or_hub_id, base, may_fetch)
    weights, target = WeightFiles(folder), (torch_dtype(dtype), _device(device))
    require_sizes(weights, config, read_config(base_folder))
    svlm, llm = svlm_config(base_folder), llm_config(config, folder)
    _refuse_unknown(weights, llm)
    compressor = _load_compressor(weights, svlm, base_folder, *target)
    _require_finite(compressor, folder)
    projector = _projector(weights, config, (svlm.text_config.hidden_size, llm.hidden_size), *target)
    answerer = _load_answerer(weights, llm, projector, context_tokens(config, llm, folder), *target)
    identity = identity_of(str(path_or_hub_id), weights, config, base_folder)
    kept = min(min_tokens(config, folder), compressor.max_memory_tokens)
    return Checkpoint(**vars(identity), compressor=compressor, answerer=answerer, min_tokens=kept)


def _device(name: str) -> torch.device:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CheckpointError("no CUDA device is available to this PyTorch; use the device cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device {name!r}; use cpu, cuda or cuda:N") from None


def _refuse_unknown(weights: WeightFiles, config: Qwen3Config) -> None:
    """Tensors outside the layout are an error: a silent leftover is how a wrong checkpoint goes unnoticed."""
    llm = modules.language_model(config)
    svlm_prefixes = (VISION, TEXT, _PROJECTOR)
    known = {name for name, _ in llm.named_parameters()} | {_MEMORY_TOKENS, "lm_head.weight"}
    for name in weights.names():
        if name not in known and not name.startswith(svlm_prefixes):
            raise CheckpointError(f"{weights.folder}: extra tensor {name}, which is not part of the layout")


def _load_compressor(
    weights: WeightFiles, config: Any, base: Path, dtype: torch.dtype, device: torch.device
) -> Compressor:
    vision, text = modules.vision_tower(config.vision_config), modules.text_model(config.text_config)
    modules.fill(vision, weights, VISION, dtype, device)
    modules.fill(text, weights, TEXT, dtype, device)
    memory = _memory_tokens(weights, config.text_config.hidden_size)
    prompts = _prompts(base, _SVLM_TOKENS)
    direction = _relevance_direction(base, config, prompts).to(device)
    return Compressor(vision, text, memory.to(device=device, dtype=dtype), direction, prompts)


def _require_finite(compressor: Compressor, folder: Path) -> None:
    """CheckpointError where the score of a white picture is not finite, so that no video is blamed for the weights.

    Vision tower, text model and relevance direction all go into a score.
    """
    patches, grid = patchify(np.full((2, 64, 64, 3), 255, np.uint8))
    try:
        compressor.relevance(compressor.encode([SegmentPixels(patches, grid, (0.0,))]), "")
    except NotFinite:
        raise CheckpointError(
            f"{folder}: the model computes numbers that are not finite from a white picture: its weights are damaged; "
            "download them again"
        ) from None


def _memory_tokens(weights: WeightFiles, hidden_size: int) -> torch.Tensor:
    """[memory tokens, SVLM hidden]."""
    ((_, memory),) = weights.tensors([_MEMORY_TOKENS])
    if memory.ndim != 3 or memory.shape[0] != 1 or memory.shape[2] != hidden_size:
        raise CheckpointError(
            f"{weights.folder}: tensor {_MEMORY_TOKENS} has shape {list(memory.shape)}, "
            f"the config asks for [1, memory tokens, {hidden_size}]"
        )
    return memory[0]


def _prompts(folder: Path, needed: Sequence[str]) -> PromptEncoder:
    """The folder's tokenizer with its chat template; transformers makes an empty one where the files are missing."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise CheckpointError(f"{folder}: no tokenizer.json")
    try:
        tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({first_line(error)})") from error
    missing = [token for token in needed if token not in tokenizer.get_vocab()]
    if missing or not tokenizer.chat_template:
        raise CheckpointError(f"{folder}: the tokenizer has no {missing[0] if missing else 'chat template'}")
    prompts = PromptEncoder(tokenizer)
    try:
        head = prompts.decode(prompts.answer_head())
    except TemplateError as error:
        raise CheckpointError(f"{folder}: the chat template does not work ({first_line(error)})") from error
    if LLM_SYSTEM not in head:
        raise CheckpointError(f"{folder}: tokenizer and chat template lose text: a prompt reads {head!r}")
    return prompts


def _relevance_direction(base: Path, config: Any, prompts: PromptEncoder) -> torch.Tensor:
    """w_Yes - w_No in float32, from the base's lm_head (tied to its embeddings in the small ones)."""
    weights, head_name = WeightFiles(base), "lm_head.weight"
    if config.tie_word_embeddings and head_name not in weights.names():
        head_name = "model.language_model.embed_tokens.weight"
    ((_, head),) = weights.tensors([head_name])
    if head.ndim != 2 or head.shape[1] != config.text_config.hidden_size:
        raise CheckpointError(f"{base}: tensor {head_name} has shape {list(head.shape)}, not what the config asks for")
    return head[prompts.token_id("Yes")].float() - head[prompts.token_id("No")].float()


def _load_answerer(
    weights: WeightFiles,
    config: Qwen3Config,
    projector: torch.nn.Module,
    context_tokens: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Answerer:
    llm = modules.language_model(config)
    tied = frozenset({"lm_head.weight"}) if config.tie_word_embeddings else frozenset()
    modules.fill(llm, weights, "", dtype, device, optional=tied)
    if tied:
        llm.tie_weights()  # type: ignore[operator]
    prompts = _prompts(weights.folder, _CHAT_TOKENS)
    return Answerer(llm, projector, prompts, context_tokens, _stop_ids(config, prompts))


def _stop_ids(config: Qwen3Config, prompts: PromptEncoder) -> frozenset[int]:
    """The config's end-of-sequence ids and the chat's end of turn."""
    eos: Any = config.eos_token_id
    listed = eos if isinstance(eos, list) else [eos]
    return frozenset(int(i) for i in [*listed, prompts.token_id("<|im_end|>")] if i is not None)


def _projector(
    weights: WeightFiles, config: dict[str, Any], sizes: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> torch.nn.Module:
    """``sizes``: the hidden sizes of the SVLM and the LLM."""
    try:
        projector = modules.projector(str(config.get("mm_projector_type", "linear")), *sizes)
    except ValueError as error:
        raise CheckpointError(f"{weights.folder / 'config.json'}: {error}") from error
    modules.fill(projector, weights, _PROJECTOR, dtype, device)
    return projector
