"""A checkpoint of random weights in the published layout, of any size: it times as well as a trained one.

`full-size.json` is the published model's configuration (small VLM 2.1 B, answering LLM 4.0 B). The tokenizer is a
small BPE trained on the prompts, so that prompts are about as long as the real tokenizer makes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Qwen2Tokenizer, Qwen3VLConfig

from flows.embedded import embedded_folder
from tempo_core import load_checkpoint, modules
from tempo_core.checkpoint_config import llm_config
from tempo_core.feature_prompt import QUESTION_SUMMARY, SEGMENT_SUMMARY
from tempo_core.prompts import LLM_SYSTEM, QWEN3_VL_ROUTING, TEMPO_SYSTEM, time_tag
from tempo_core.tempo_checkpoint import TempoCheckpoint, require_tempo

QUESTION = "What does the speaker say about the storm, and when does the map appear on the screen behind him?"
_TOWER = "model.vision_tower_aux_list.0."
_SEED = 20260408


def tempo_checkpoint(size: str, work: Path, device: str) -> TempoCheckpoint:
    """``tiny``: the embedded model on the CPU; ``full``: random weights of the published size, written to ``work``."""
    if size == "tiny":
        return require_tempo(load_checkpoint(embedded_folder()))
    folder = write_checkpoint(work / "checkpoint", Path(__file__).with_name("full-size.json"), device)
    return require_tempo(load_checkpoint(folder, device=device, dtype="bfloat16"))


def write_checkpoint(folder: Path, size_config: Path, device: str) -> Path:
    """Writes base and Tempo folders (bf16) below ``folder`` and returns the Tempo one. Once per folder."""
    tempo = folder / "tempo"
    if (tempo / "config.json").is_file():
        return tempo
    sizes = json.loads(size_config.read_text())
    base = folder / "base"
    tokenizer = small_tokenizer()
    for place in (base, tempo):
        place.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(place)
    svlm, llm = sizes["small_vlm"], sizes["answering_llm"]
    (base / "config.json").write_text(json.dumps({"architectures": ["Qwen3VLForConditionalGeneration"], **svlm}))
    generator = torch.Generator(device).manual_seed(_SEED)
    tower = {name: random_tensor(shape, generator) for name, shape in _svlm_shapes(base).items()}
    save_file({"lm_head.weight": tower["language_model.embed_tokens.weight"]}, base / "model.safetensors")
    hidden, wide = int(svlm["text_config"]["hidden_size"]), int(llm["hidden_size"])
    own = _llm_shapes(llm) | {
        "model.mm_projector.0.weight": (wide, hidden),
        "model.mm_projector.0.bias": (wide,),
        "model.mm_projector.2.weight": (wide, wide),
        "model.mm_projector.2.bias": (wide,),
        _TOWER + "compression_tokens": (1, int(sizes["num_compression_tokens"]), hidden),
    }
    tensors = {name: random_tensor(shape, generator) for name, shape in own.items()}
    tensors |= {f"{_TOWER}vlm.model.{name}": tensor for name, tensor in tower.items()}
    save_file(tensors, tempo / "model.safetensors")
    config = llm | {"mm_vision_tower_aux_list": ["base"], "mm_projector_type": sizes["mm_projector_type"]}
    (tempo / "config.json").write_text(json.dumps(config | {"tokenizer_model_max_length": 16384}))
    return tempo


def small_tokenizer() -> Any:
    embedded = Qwen2Tokenizer.from_pretrained(embedded_folder(), local_files_only=True)
    tags = [time_tag(second) for second in range(10)]
    systems = [TEMPO_SYSTEM, QWEN3_VL_ROUTING.system, LLM_SYSTEM]
    texts = [*systems, SEGMENT_SUMMARY, QUESTION_SUMMARY, QUESTION, "\nQuery:\nuser assistant system"]
    return embedded.train_new_from_iterator([[*texts, *tags, "Yes No"]] * 4, vocab_size=900)


def _svlm_shapes(base: Path) -> dict[str, tuple[int, ...]]:
    config = Qwen3VLConfig.from_pretrained(base, local_files_only=True)
    towers = {"visual.": modules.vision_tower(config.vision_config)}
    towers["language_model."] = modules.text_model(config.text_config)
    return {
        prefix + name: tuple(parameter.shape)
        for prefix, module in towers.items()
        for name, parameter in module.named_parameters()
    }


def _llm_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    module = modules.language_model(llm_config(config, Path("tempo")))
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def random_tensor(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Norm weights 1 and biases 0; a matrix keeps the size of what passes through it."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    fan_in = int(torch.tensor(shape[1:]).prod())
    values = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32) * fan_in**-0.5
    weights: torch.Tensor = values.to(torch.bfloat16).cpu()
    return weights
