"""What identifies an embedding model, and whether it can make features of another model's states.

Neither torch nor transformers is loaded for one that was identified before.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from tempo_core.checkpoint_config import require_tokenizer
from tempo_core.embedding_config import LAST_TOKEN, pooling_of
from tempo_core.errors import CheckpointError
from tempo_core.feature_prompt import QWEN3_VL_EMBEDDING
from tempo_core.fingerprints import digest
from tempo_core.model_identity import (
    QWEN3_VL,
    FeaturesIdentity,
    ModelIdentity,
    Tower,
    family_of,
    state_shape,
    weight_hashes,
)
from tempo_core.user_cache import recall, remember
from tempo_core.weights import WeightFiles, find_folder, read_config

Identity = TypeVar("Identity", bound=ModelIdentity)

_PROMPTS = "feature-prompts.json"
_PROMPT_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json",
                 "special_tokens_map.json", "chat_template.jinja", "chat_template.json")  # fmt: skip


def identify_features(path_or_hub_id: str | os.PathLike[str], may_fetch: bool = True) -> FeaturesIdentity:
    """The embedding model of a folder or hub id; its files are hashed (once), no module is built.

    CheckpointError where it is none, or where config, tokenizer or weights cannot be read.
    """
    folder = find_embedding(path_or_hub_id, may_fetch)
    vision, text = weight_hashes(WeightFiles(folder), QWEN3_VL)
    return FeaturesIdentity(str(path_or_hub_id), Tower(vision, *state_shape(folder)), text, _prompt(folder))


def find_embedding(path_or_hub_id: str | os.PathLike[str], may_fetch: bool) -> Path:
    """The folder of an embedding model; CheckpointError where it holds anything else."""
    folder = find_folder(path_or_hub_id, may_fetch=may_fetch)
    config, pooling = read_config(folder), pooling_of(folder)
    if family_of(config) != QWEN3_VL or pooling is None:
        modules = "no modules.json with a Pooling" if pooling is None else "a modules.json"
        raise CheckpointError(
            f"{path_or_hub_id} is no Qwen3-VL embedding model (model_type {config.get('model_type')!r}, {modules}); "
            "give one as --features (Qwen/Qwen3-VL-Embedding-2B), whole as it is published"
        )
    if pooling != LAST_TOKEN:
        raise CheckpointError(f"{path_or_hub_id} pools its tokens by {pooling}; only {LAST_TOKEN} is supported")
    return folder


def joined(model: Identity, features: FeaturesIdentity) -> Identity:
    """The model with features by another; CheckpointError that says what differs where their towers do."""
    ours, theirs = model.tower, features.tower
    if ours == theirs:
        return replace(model, features=features)
    if (ours.levels, ours.hidden) != (theirs.levels, theirs.hidden):
        difference = (
            f"{theirs.levels} x {theirs.hidden:,} numbers a visual token, where {model.id} makes "
            f"{ours.levels} x {ours.hidden:,}"
        )
    else:
        difference = f"its weights {theirs.sha256[:12]}, where those of {model.id} are {ours.sha256[:12]}"
    raise CheckpointError(
        f"{features.id} cannot make features of what {model.id} encodes: its vision tower is another one "
        f"({difference}); give the embedding model that was made from the same Qwen3-VL"
    )


def _prompt(folder: Path) -> str:
    """A digest of what it is asked by, remembered by its files' sizes and times: transformers takes seconds to load."""
    require_tokenizer(folder)
    stats = [(name, (folder / name).stat()) for name in _PROMPT_FILES if (folder / name).is_file()]
    files = [f"{name}|{stat.st_size}|{stat.st_mtime_ns}" for name, stat in stats]
    key = digest({"folder": str(folder.resolve()), "files": [*files], "prompt": asdict(QWEN3_VL_EMBEDDING)})
    match recall(_PROMPTS, key):
        case str(known):
            return known
    from tempo_core.prompt_loading import load_prompts

    prompts = load_prompts(folder, features=QWEN3_VL_EMBEDDING)
    segment = prompts.prefix((2, 2, 2), (0.25, 1.25), merge=2).ids.tolist() + prompts.summary_suffix()
    found = digest({"segment": segment, "question": [*prompts.question_summary("")]})
    remember(_PROMPTS, key, found)
    return found
