"""What a checkpoint's config.json says: its base, the shapes of both models, frame geometry, context length.

A config comes with the weights, from anybody: whatever is wrong in it is one CheckpointError that names the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tempo_core.allocation import MIN_TOKENS
from tempo_core.errors import CheckpointError
from tempo_core.pixels import MERGE, PAIR, PATCH
from tempo_core.spec import FrameGeometry
from tempo_core.weights import read_config

if TYPE_CHECKING:
    from transformers import Qwen3Config


def base_name(config: dict[str, Any], folder: Path) -> str:
    """The SVLM that the checkpoint began as: a hub id, an absolute path, or a folder beside or inside it."""
    names = config.get("mm_vision_tower_aux_list")
    if not isinstance(names, list) or not names:
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type is {config.get('model_type')!r} and there is no "
            "mm_vision_tower_aux_list; what can be used is a stock Qwen3-VL (qwen3_vl), or a checkpoint of Tempo's "
            "layout, which names its base there (or name its base yourself)"
        )
    return str(names[0])


def svlm_config(base: Path) -> Any:
    """The base's Qwen3VLConfig."""
    from transformers import Qwen3VLConfig

    config = read_config(base)
    if config.get("model_type") != "qwen3_vl":
        raise CheckpointError(
            f"{base / 'config.json'}: model_type is {config.get('model_type')!r}, but the base must be a qwen3_vl"
        )
    parsed = _parsed(Qwen3VLConfig, config, base)
    for key, ours in {"patch_size": PATCH, "temporal_patch_size": PAIR, "spatial_merge_size": MERGE}.items():
        if (theirs := getattr(parsed.vision_config, key)) != ours:
            raise CheckpointError(
                f"{base / 'config.json'}: vision_config.{key} is {theirs!r}, only {ours} is supported"
            )
    return parsed


def require_tokenizer(folder: Path) -> None:
    """CheckpointError where a folder has none: transformers makes an empty one then."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise CheckpointError(f"{folder}: no tokenizer.json; download all of the checkpoint")


def llm_config(config: dict[str, Any], folder: Path) -> Qwen3Config:
    """The answering LLM's shape; the rest of the config is attributes to it."""
    from transformers import Qwen3Config

    own = {key: value for key, value in config.items() if key not in {"model_type", "architectures", "dtype"}}
    parsed: Qwen3Config = _parsed(Qwen3Config, own, folder)
    return parsed


def frame_geometry(config: dict[str, Any], folder: Path) -> FrameGeometry:
    """The sizes its frames were trained at, where they are not the published ones."""
    known, own = asdict(FrameGeometry()), config.get("frame_geometry") or {}
    if not isinstance(own, dict) or not own.keys() <= known.keys():
        raise CheckpointError(f"{folder / 'config.json'}: frame_geometry is no object with keys among {sorted(known)}")
    for key, value in own.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0 or value != round(value):
            raise CheckpointError(f"{folder / 'config.json'}: frame_geometry.{key} is {value!r}, not a whole number")
    geometry = FrameGeometry(**{key: type(known[key])(value) for key, value in own.items()})
    if geometry.patch_multiple % (PATCH * MERGE):
        raise CheckpointError(
            f"{folder / 'config.json'}: frame_geometry.patch_multiple is {geometry.patch_multiple}, "
            f"not a multiple of {PATCH * MERGE}"
        )
    if geometry.min_area > geometry.max_area:
        raise CheckpointError(f"{folder / 'config.json'}: frame_geometry.min_area is above max_area")
    return geometry


def min_tokens(config: dict[str, Any], folder: Path) -> int:
    """What Adaptive Token Allocation leaves every segment: the published 4, or what a small checkpoint says."""
    least = config.get("min_compression_tokens", MIN_TOKENS)
    if isinstance(least, bool) or not isinstance(least, int) or least < 1:
        raise CheckpointError(f"{folder / 'config.json'}: min_compression_tokens is {least!r}, not a number from 1 on")
    return least


def absent_below(config: dict[str, Any], folder: Path) -> float | None:
    """The relevance score below which what is asked about is not there, where the checkpoint was calibrated."""
    score = config.get("absent_below")
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise CheckpointError(f"{folder / 'config.json'}: absent_below is {score!r}, not a score within 0..1")
    return float(score)


def context_tokens(config: dict[str, Any], llm: Qwen3Config, folder: Path) -> int:
    """The longest sequence that the LLM was trained for and can place."""
    trained = config.get("tokenizer_model_max_length") or llm.max_position_embeddings
    if not isinstance(trained, int) or trained < 1:
        raise CheckpointError(f"{folder / 'config.json'}: tokenizer_model_max_length is {trained!r}")
    return min(trained, int(llm.max_position_embeddings))


def _parsed(kind: Callable[..., Any], values: dict[str, Any], folder: Path) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    try:
        return kind(**_without_labels(values))
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {first_line(error)}") from error


def _without_labels(values: dict[str, Any]) -> dict[str, Any]:
    """Of classes, which no part of the method has: transformers makes as many names as a config asks for."""
    kept = {key: value for key, value in values.items() if key != "num_labels"}
    return {key: _without_labels(value) if isinstance(value, dict) else value for key, value in kept.items()}


def first_line(error: BaseException) -> str:
    """An error of another library, short enough for one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
