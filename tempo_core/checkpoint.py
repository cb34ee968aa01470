"""Loading a checkpoint of any family: its config says which."""

from __future__ import annotations

import os

from tempo_core.checkpoint_parts import Checkpoint, Target, find_device
from tempo_core.checkpoint_sizes import require_sizes
from tempo_core.model_identity import QWEN3_VL, family_of, find_folders, identity_of
from tempo_core.stock_checkpoint import load_stock
from tempo_core.tempo_checkpoint import load_tempo
from tempo_core.weights import WeightFiles, read_config, torch_dtype


def load_checkpoint(
    path_or_hub_id: str | os.PathLike[str],
    base: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    may_fetch: bool = True,
) -> Checkpoint:
    """Loads a checkpoint from a folder or hub id: Tempo's published layout, or a stock Qwen3-VL.

    ``base``: the SVLM that a Tempo began as, by default the one its config names. ``dtype``: float32 or bfloat16, of
    weights and computation. Raises CheckpointError naming the missing or extra tensor, file or config key; NotFetched
    where it or its base would have to come from the hub and not ``may_fetch``. Only safetensors are read and no code of
    the checkpoint is run.
    """
    folder, config, base_folder = find_folders(path_or_hub_id, base, may_fetch)
    weights, target = WeightFiles(folder), Target(torch_dtype(dtype), find_device(device))
    require_sizes(weights, family_of(config), config, read_config(base_folder))
    identity = identity_of(str(path_or_hub_id), weights, config, base_folder)
    if identity.family == QWEN3_VL:
        return load_stock(identity, weights, target)
    return load_tempo(identity, weights, base_folder, target)
