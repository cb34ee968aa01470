"""Copies of the golden checkpoint and its base, rewritten as a test needs them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tempo_core.checkpoint_parts import Checkpoint
from tempo_core.tempo_checkpoint import require_tempo
from tempo_core.values import FloatArray
from tests.support.golden_cases import BASE, TEMPO, small_segment

Tensors = dict[str, torch.Tensor]

SVLM = "model.vision_tower_aux_list.0.vlm.model."
VISION, TEXT = SVLM + "visual.", SVLM + "language_model."
MEMORY_TOKENS = "model.vision_tower_aux_list.0.compression_tokens"
PROJECTOR = "model.mm_projector."
EMBEDDINGS = "model.language_model.embed_tokens.weight"  # of the base
torch.set_num_threads(1)  # so small a model only waits for a second one

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Copy:
    """A checkpoint folder and its base beside it."""

    tempo: Path
    base: Path


def copied(folder: Path) -> Copy:
    shutil.copytree(TEMPO, folder / TEMPO.name)
    shutil.copytree(BASE, folder / BASE.name)
    return Copy(folder / TEMPO.name, folder / BASE.name)


def edit_config(folder: Path, name: str = "config.json", /, **changes: object) -> None:
    """Set keys of a JSON file; None removes one."""
    config = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def edit_tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


def shard(folder: Path, count: int = 3) -> list[Path]:
    """The single file as ``count`` shards with an index, dealt out so that every part of the model is spread."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    files = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    names = sorted(tensors)
    for i, file in enumerate(files):
        save_file({name: tensors[name] for name in names[i::count]}, folder / file)
    mapping = {name: files[i % count] for i, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": mapping}))
    return [folder / file for file in files]


def edit_index(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


def behaviour(loaded: Checkpoint) -> FloatArray:
    """What a checkpoint computes of one small segment: its score, two memory tokens, the first answer logits."""
    question, checkpoint = "What is this?", require_tempo(loaded)
    read = checkpoint.compressor.read(checkpoint.compressor.encode([small_segment()]), question)
    memory = checkpoint.compressor.compress(read, question, [2])
    logits = checkpoint.answerer.next_logits(checkpoint.answerer.prompt(question, [2.0], memory))
    return np.concatenate([read.scores, memory[0].flatten().float(), logits])
