"""An embedding model (Qwen3-VL-Embedding): its text model makes features of the states of another model's vision tower.

<checkpoint>/config.json        Qwen3VLConfig, as of a stock Qwen3-VL
model.visual.*                  vision tower: compared by its hash, never loaded
model.language_model.*          text model
lm_head.weight                  not read
modules.json, 1_Pooling/        what tells it from a model that answers
tokenizer.json, chat template
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from tempo_core import modules
from tempo_core.checkpoint_config import svlm_config
from tempo_core.checkpoint_parts import Checkpoint, Target, require_finite
from tempo_core.checkpoint_sizes import require_sizes
from tempo_core.feature_model import FeatureModel
from tempo_core.feature_prompt import QWEN3_VL_EMBEDDING
from tempo_core.features_identity import find_embedding, identify_features, joined
from tempo_core.model_identity import QWEN3_VL
from tempo_core.prompt_loading import load_prompts
from tempo_core.router import Router
from tempo_core.weights import WeightFiles, read_config

Loaded = TypeVar("Loaded", bound=Checkpoint)


def with_features(checkpoint: Loaded, path_or_hub_id: str | os.PathLike[str], may_fetch: bool = True) -> Loaded:
    """The checkpoint, with features made by an embedding model, which is loaded where the first feature is asked for.

    CheckpointError where it is no embedding model, or its vision tower is not the checkpoint's; NotFetched as
    ``load_checkpoint``.
    """
    identity = joined(checkpoint, identify_features(path_or_hub_id, may_fetch))
    folder = find_embedding(path_or_hub_id, may_fetch)
    return replace(identity, load_featurer=cache(partial(load_featurer, folder, checkpoint.router)))


def load_featurer(folder: Path, router: Router) -> FeatureModel:
    """The text model of an embedding model, in the number format and on the device of ``router``."""
    weights, config, target = WeightFiles(folder), svlm_config(folder), Target(router.dtype, router.device)
    raw = read_config(folder)
    require_sizes(weights, QWEN3_VL, raw, raw)
    weights.refuse_others({"lm_head.weight"}, (QWEN3_VL.vision, QWEN3_VL.text))
    text = modules.text_model(config.text_config)
    modules.fill(text, weights, QWEN3_VL.text, target.dtype, target.device)
    prompts = load_prompts(folder, features=QWEN3_VL_EMBEDDING)
    featurer = FeatureModel(text, prompts, int(config.vision_config.spatial_merge_size))
    require_finite(router, folder, featurer)
    return featurer
