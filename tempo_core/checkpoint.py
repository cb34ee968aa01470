"""Loading a Tempo checkpoint of the published layout, and what identifies it.

<checkpoint>/config.json                      the answering LLM (Qwen3 fields) and the names of its parts
model.* , lm_head.*                           the LLM
model.mm_projector.*                          SVLM hidden -> LLM hidden
model.vision_tower_aux_list.0.vlm.model.*     the fine-tuned SVLM, without lm_head
model.vision_tower_aux_list.0.compression_tokens   (1, memory tokens, SVLM hidden)
<base>/                                       tokenizer, chat template and lm_head of the SVLM it began as
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3VLConfig

from tempo_core import modules
from tempo_core.answerer import Answerer
from tempo_core.compressor import Compressor
from tempo_core.errors import CheckpointError
from tempo_core.fingerprints import Fingerprints, fingerprints
from tempo_core.prompts import SEGMENT_SUMMARY, SVLM_SYSTEM, PromptEncoder
from tempo_core.spec import FrameGeometry, IndexSpec
from tempo_core.weights import WeightFiles, find_folder, read_config, torch_dtype

_TOWER = "model.vision_tower_aux_list.0."
_VISION, _TEXT = _TOWER + "vlm.model.visual.", _TOWER + "vlm.model.language_model."
_MEMORY_TOKENS = _TOWER + "compression_tokens"
_PROJECTOR = "model.mm_projector."


@dataclass(frozen=True)
class Checkpoint:
    """A loaded Tempo model. ``compressor`` reads videos, ``answerer`` answers; ``id`` is the name it was asked by."""

    id: str
    compressor: Compressor
    answerer: Answerer
    geometry: FrameGeometry
    vision_sha256: str
    text_sha256: str

    def fingerprints(self, spec: IndexSpec) -> Fingerprints:
        """The chain of identities of what this model computes under ``spec`` (DESIGN §5)."""
        suffix = SVLM_SYSTEM + SEGMENT_SUMMARY
        return fingerprints(spec, self.geometry, self.vision_sha256, self.text_sha256, suffix)


def load_checkpoint(
    path_or_hub_id: str | os.PathLike[str],
    base: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Checkpoint:
    """Loads a checkpoint from a folder or hub id; its base SVLM is ``base`` or the one its config names.

    ``dtype``: float32 or bfloat16, of weights and computation. Raises CheckpointError naming the missing or extra
    tensor, file or config key. Only safetensors are read and no code of the checkpoint is run.
    """
    folder = find_folder(path_or_hub_id)
    config = read_config(folder)
    base_folder = find_folder(base) if base is not None else find_folder(_base_name(config, folder), folder)
    weights, target = WeightFiles(folder), (torch_dtype(dtype), _device(device))
    _refuse_unknown(weights, config)
    compressor = _load_compressor(weights, base_folder, *target)
    answerer = _load_answerer(weights, config, folder, *target)
    vision, text = _weight_hashes(weights)
    return Checkpoint(str(path_or_hub_id), compressor, answerer, _geometry(config, folder), vision, text)


def _base_name(config: dict[str, Any], folder: Path) -> str:
    names = config.get("mm_vision_tower_aux_list")
    if not isinstance(names, list) or not names:
        raise CheckpointError(
            f"{folder / 'config.json'}: no mm_vision_tower_aux_list, so this is no Tempo checkpoint "
            "(or name its base model yourself)"
        )
    return str(names[0])


def _device(name: str) -> torch.device:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CheckpointError("no CUDA device is available to this PyTorch; use the device cpu")
    return torch.device(name)


def _refuse_unknown(weights: WeightFiles, config: dict[str, Any]) -> None:
    """Tensors outside the layout are an error: a silent leftover is how a wrong checkpoint goes unnoticed."""
    llm = modules.language_model(_llm_config(config))
    svlm_prefixes = (_VISION, _TEXT, _PROJECTOR)
    known = {name for name, _ in llm.named_parameters()} | {_MEMORY_TOKENS, "lm_head.weight"}
    for name in weights.names():
        if name not in known and not name.startswith(svlm_prefixes):
            raise CheckpointError(f"{weights.folder}: extra tensor {name}, which is not part of the layout")


def _load_compressor(weights: WeightFiles, base: Path, dtype: torch.dtype, device: torch.device) -> Compressor:
    config = Qwen3VLConfig.from_pretrained(base, local_files_only=True)
    vision, text = modules.vision_tower(config.vision_config), modules.text_model(config.text_config)
    modules.fill(vision, weights, _VISION, dtype, device)
    modules.fill(text, weights, _TEXT, dtype, device)
    ((_, memory),) = weights.tensors([_MEMORY_TOKENS])
    prompts = PromptEncoder(Qwen2Tokenizer.from_pretrained(base, local_files_only=True))
    direction = _relevance_direction(base, prompts).to(device)
    return Compressor(vision, text, memory[0].to(device=device, dtype=dtype), direction, prompts)


def _relevance_direction(base: Path, prompts: PromptEncoder) -> torch.Tensor:
    """w_Yes - w_No in float32, from the base's lm_head (tied to its embeddings in the small ones)."""
    weights = WeightFiles(base)
    heads = [*weights.names("lm_head."), *weights.names("model.language_model.embed_tokens.")]
    if not heads:
        raise CheckpointError(f"{base}: neither lm_head.weight nor tied embeddings, so no relevance score")
    ((_, head),) = weights.tensors(heads[:1])
    return head[prompts.token_id("Yes")].float() - head[prompts.token_id("No")].float()


def _load_answerer(
    weights: WeightFiles,
    config: dict[str, Any],
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
) -> Answerer:
    llm_config = _llm_config(config)
    llm = modules.language_model(llm_config)
    tied = frozenset({"lm_head.weight"}) if llm_config.tie_word_embeddings else frozenset()
    modules.fill(llm, weights, "", dtype, device, optional=tied)
    if tied:
        llm.tie_weights()  # type: ignore[operator]
    projector = _projector(weights, str(config.get("mm_projector_type", "linear")), dtype, device)
    prompts = PromptEncoder(Qwen2Tokenizer.from_pretrained(folder, local_files_only=True))
    context = int(config.get("tokenizer_model_max_length") or llm_config.max_position_embeddings)
    context = min(context, llm_config.max_position_embeddings)
    return Answerer(llm, projector, prompts, context, _stop_ids(llm_config, prompts))


def _stop_ids(config: Qwen3Config, prompts: PromptEncoder) -> frozenset[int]:
    """The config's end-of-sequence ids and the chat's end of turn."""
    eos: Any = config.eos_token_id
    listed = eos if isinstance(eos, list) else [eos]
    return frozenset(int(i) for i in [*listed, prompts.token_id("<|im_end|>")] if i is not None)


def _llm_config(config: dict[str, Any]) -> Qwen3Config:
    own = {key: value for key, value in config.items() if key not in {"model_type", "architectures", "dtype"}}
    return Qwen3Config(**own)


def _projector(weights: WeightFiles, kind: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """``linear`` or ``mlpNx_gelu``, sized by its own tensors."""
    names = [name for name in weights.names(_PROJECTOR) if name.endswith(".weight")]
    shapes = {name: tensor.shape for name, tensor in weights.tensors(names)}
    layers: list[nn.Module] = []
    for name in names:
        out_size, in_size = shapes[name]
        layers += [nn.GELU()] if layers else []
        layers += [nn.Linear(in_size, out_size, device="meta")]
    expected = 1 if kind == "linear" else _mlp_depth(kind, weights.folder)
    if len(names) != expected:
        raise CheckpointError(f"{weights.folder}: {_PROJECTOR}* has {len(names)} layers, {kind} asks for {expected}")
    projector = nn.Sequential(*layers).eval().requires_grad_(False)
    modules.fill(projector, weights, _PROJECTOR, dtype, device)
    return projector


def _mlp_depth(kind: str, folder: Path) -> int:
    depth = kind.removeprefix("mlp").removesuffix("x_gelu")
    if not depth.isdigit():
        raise CheckpointError(f"{folder / 'config.json'}: mm_projector_type {kind!r} is not linear or mlpNx_gelu")
    return int(depth)


def _geometry(config: dict[str, Any], folder: Path) -> FrameGeometry:
    own = config.get("frame_geometry") or {}
    unknown = set(own) - {field.name for field in fields(FrameGeometry)}
    if unknown:
        raise CheckpointError(f"{folder / 'config.json'}: frame_geometry has unknown keys {sorted(unknown)}")
    return FrameGeometry(**own)


def _weight_hashes(weights: WeightFiles) -> tuple[str, str]:
    """(vision, text) weights' SHA-256, remembered by the files' sizes and times: 4 GB take seconds to hash."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tempo" / "weight-hashes.json"
    key = f"{weights.folder.resolve()}|{weights.stamp()}"
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        known = {}
    if key in known:
        vision, text = known[key]
        return str(vision), str(text)
    found = (weights.sha256(_VISION), weights.sha256(_TEXT))
    _remember(cache, {**known, key: found})
    return found


def _remember(cache: Path, known: dict[str, Any]) -> None:
    """A cache that cannot be written costs time, not the answer."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(known))
        partial.replace(cache)
    except OSError:
        return
