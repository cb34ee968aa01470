"""Writing the model in the published layout: the Tempo folder and its base beside it, safetensors in shards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file

from nano import sizes
from nano.model import NanoModel
from nano.sizes import BASE, TEMPO
from nano.tokenizer import tokenizer_files

Tensor = torch.Tensor
SHARD_BYTES = 15_000_000
_TOWER = "model.vision_tower_aux_list.0."


def write_checkpoint(model: NanoModel, folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Both folders below ``folder``; the Tempo one is returned.

    The base holds its embeddings alone (tied to its lm_head), which is all that is read of it: the rest of a base is
    what the fine-tuned SVLM replaces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as part:
        _write(model, Path(part), dtype)
        for name in (BASE, TEMPO):
            shutil.rmtree(folder / name, ignore_errors=True)
            (Path(part) / name).rename(folder / name)
    return folder / TEMPO


def _write(model: NanoModel, folder: Path, dtype: torch.dtype) -> None:
    base, tempo = folder / BASE, folder / TEMPO
    _write_texts(base, {"config.json": sizes.base_config(), **sizes.processor_configs()})
    configs = {"config.json": sizes.tempo_config(), "generation_config.json": sizes.generation_config()}
    _write_texts(tempo, configs)
    rows = model.get_buffer("base_embed").to("cpu", dtype).contiguous()
    _write_shards(base, {"model.language_model.embed_tokens.weight": rows})
    _write_shards(tempo, {name: tensor.to("cpu", dtype) for name, tensor in published_names(model).items()})


def published_names(model: NanoModel) -> dict[str, Tensor]:
    """Every parameter by its name in the published layout."""
    parts = {
        f"{_TOWER}vlm.model.visual.": model.vision,
        f"{_TOWER}vlm.model.language_model.": model.text,
        "model.mm_projector.": model.projector,
        "": model.llm,
    }
    named = {prefix + name: p.detach() for prefix, part in parts.items() for name, p in part.named_parameters()}
    return {**named, f"{_TOWER}compression_tokens": model.memory_tokens.detach()[None]}


def _write_texts(folder: Path, configs: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tokenizer_files().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    for name, config in configs.items():
        (folder / name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8", newline="\n")


def _write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """One file, or as many of at most SHARD_BYTES as it takes, with their index."""
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, tensor in sorted(tensors.items()):
        if used + tensor.nbytes > SHARD_BYTES and shards[-1]:
            shards.append({})
            used = 0
        shards[-1][name] = tensor.contiguous()
        used += tensor.nbytes
    if len(shards) == 1:
        save_file(shards[0], folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name, metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {key: name for name, shard in zip(names, shards, strict=True) for key in shard},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
