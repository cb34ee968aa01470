"""Writing a model: in the published layout, the Tempo folder and its base beside it, or in the stock one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import nn

from nano import sizes
from nano.model import NanoModel, Svlm
from nano.sizes import BASE, STOCK, TEMPO
from nano.tokenizer import STOCK_WORDING, TEMPO_WORDING, Wording, tokenizer_files, vocabulary

Tensor = torch.Tensor
SHARD_BYTES = 15_000_000
_TOWER = "model.vision_tower_aux_list.0."


def write_checkpoint(model: NanoModel, folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Both folders below ``folder``; the Tempo one is returned.

    The base holds its embeddings alone (tied to its lm_head), which is all that is read of it: the rest of a base is
    what the fine-tuned SVLM replaces.
    """
    return _replaced(folder, partial(_write, model, dtype), (BASE, TEMPO))


def write_stock(model: Svlm, folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """A folder below ``folder`` as a stock Qwen3-VL is published, which is returned."""
    return _replaced(folder, partial(_write_stock, model, dtype), (STOCK,))


def _replaced(folder: Path, write: Callable[[Path], None], names: tuple[str, ...]) -> Path:
    """What ``write`` makes in a folder takes the place of the folders ``names``; the last of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as part:
        write(Path(part))
        for name in names:
            shutil.rmtree(folder / name, ignore_errors=True)
            (Path(part) / name).rename(folder / name)
    return folder / names[-1]


def _write(model: NanoModel, dtype: torch.dtype, folder: Path) -> None:
    base, tempo = folder / BASE, folder / TEMPO
    _write_texts(base, TEMPO_WORDING, {"config.json": sizes.base_config(), **sizes.processor_configs()})
    generation = sizes.generation_config(vocabulary(TEMPO_WORDING))
    configs = {"config.json": sizes.tempo_config(), "generation_config.json": generation}
    _write_texts(tempo, TEMPO_WORDING, configs)
    rows = model.get_buffer("base_embed").to("cpu", dtype).contiguous()
    _write_shards(base, {"model.language_model.embed_tokens.weight": rows})
    _write_shards(tempo, {name: tensor.to("cpu", dtype) for name, tensor in published_names(model).items()})


def _write_stock(model: Svlm, dtype: torch.dtype, folder: Path) -> None:
    stock, generation = folder / STOCK, sizes.generation_config(vocabulary(STOCK_WORDING))
    configs = {"config.json": sizes.stock_config(), "generation_config.json": generation}
    _write_texts(stock, STOCK_WORDING, configs | sizes.processor_configs())
    named = _named({"model.visual.": model.vision, "model.language_model.": model.text})
    _write_shards(stock, {name: tensor.to("cpu", dtype) for name, tensor in named.items()})


def published_names(model: NanoModel) -> dict[str, Tensor]:
    """Every parameter by its name in the published layout."""
    parts = {
        f"{_TOWER}vlm.model.visual.": model.vision,
        f"{_TOWER}vlm.model.language_model.": model.text,
        "model.mm_projector.": model.projector,
        "": model.llm,
    }
    return {**_named(parts), f"{_TOWER}compression_tokens": model.memory_tokens.detach()[None]}


def _named(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """``parts``: by the prefix of their parameters' names."""
    return {prefix + name: p.detach() for prefix, part in parts.items() for name, p in part.named_parameters()}


def _write_texts(folder: Path, wording: Wording, configs: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tokenizer_files(wording).items():
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
