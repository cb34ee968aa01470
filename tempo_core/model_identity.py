"""What identifies a checkpoint. Neither torch nor transformers is loaded for one that was identified before."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tempo_core.checkpoint_config import absent_below, base_name, frame_geometry, svlm_config
from tempo_core.embedding_config import pooling_of
from tempo_core.errors import CheckpointError, UsageError
from tempo_core.feature_prompt import SEGMENT_SUMMARY
from tempo_core.fingerprints import Fingerprints, fingerprints
from tempo_core.prompts import QWEN3_VL_ROUTING, TEMPO_ROUTING, RoutingPrompt
from tempo_core.spec import FrameGeometry, IndexSpec, StateDtype
from tempo_core.user_cache import recall, remember
from tempo_core.values import row_bytes
from tempo_core.weights import WeightFiles, find_folder, read_config


@dataclass(frozen=True)
class Family:
    """What differs between kinds of checkpoints: the prefixes of tensors' names, and how they are asked to route."""

    name: str
    vision: str
    text: str
    routing: RoutingPrompt


TOWER = "model.vision_tower_aux_list.0."
TEMPO = Family("a Tempo checkpoint", TOWER + "vlm.model.visual.", TOWER + "vlm.model.language_model.", TEMPO_ROUTING)
QWEN3_VL = Family("a stock Qwen3-VL", "model.visual.", "model.language_model.", QWEN3_VL_ROUTING)
_HASHES, _SHAPES = "weight-hashes.json", "state-shapes.json"


@dataclass(frozen=True)
class Tower:
    """A vision tower: its weights, and what it makes of a visual token: ``levels`` rows of ``hidden`` numbers."""

    sha256: str
    levels: int
    hidden: int


@dataclass(frozen=True)
class FeaturesIdentity:
    """What identifies an embedding model, whose text model makes features of states of the same ``tower``.

    ``id`` is the name that the caller gave, ``prompt`` a digest of the token ids that it is asked by.
    """

    id: str
    tower: Tower
    text_sha256: str
    prompt: str


@dataclass(frozen=True)
class ModelIdentity:
    """What identifies a model without loading it. ``id`` is the name that the caller gave.

    ``absent_below``: a best relevance score below it means that the videos do not show what is asked about (None: the
    model was not calibrated for it).
    ``state_levels`` rows of ``state_hidden`` numbers are kept per visual token.
    ``features``: the embedding model that makes the features instead of this one.
    """

    id: str
    family: Family
    geometry: FrameGeometry
    vision_sha256: str
    text_sha256: str
    state_levels: int
    state_hidden: int
    absent_below: float | None
    features: FeaturesIdentity | None = field(default=None, kw_only=True)

    @property
    def tower(self) -> Tower:
        return Tower(self.vision_sha256, self.state_levels, self.state_hidden)

    def fingerprints(self, spec: IndexSpec) -> Fingerprints:
        """The fingerprints of what this model, and the one that makes its features, compute under ``spec``."""
        if self.features is not None:
            text, suffix = self.features.text_sha256, self.features.prompt
        else:
            text, suffix = self.text_sha256, self.family.routing.system + SEGMENT_SUMMARY
        return fingerprints(spec, self.geometry, self.vision_sha256, text, suffix)

    def token_bytes(self, state_dtype: StateDtype) -> int:
        """Bytes that one visual token takes in a states part."""
        return self.state_levels * row_bytes(self.state_hidden, state_dtype)


def identify_checkpoint(
    path_or_hub_id: str | os.PathLike[str], base: str | os.PathLike[str] | None = None, may_fetch: bool = True
) -> ModelIdentity:
    """What ``load_checkpoint`` would give, less the model: its files are hashed (once), no module is built.

    CheckpointError where config or weights cannot be read.
    """
    folder, config, base_folder = find_folders(path_or_hub_id, base, may_fetch)
    return identity_of(str(path_or_hub_id), WeightFiles(folder), config, base_folder)


def find_folders(
    path_or_hub_id: str | os.PathLike[str], base: str | os.PathLike[str] | None, may_fetch: bool
) -> tuple[Path, dict[str, Any], Path]:
    """The checkpoint's folder and config, and the folder of the SVLM that it began as: its own for a stock one."""
    folder = find_folder(path_or_hub_id, may_fetch=may_fetch)
    config = read_config(folder)
    if family_of(config) == QWEN3_VL:
        if base is not None:
            raise UsageError(f"{path_or_hub_id} is a whole vision-language model; it takes no base")
        if pooling_of(folder) is not None:
            raise CheckpointError(
                f"{path_or_hub_id} is an embedding model: it finds segments and answers nothing; give it as "
                "--features, and as --model the Qwen3-VL that it was made from (Qwen/Qwen3-VL-2B-Instruct of "
                "Qwen/Qwen3-VL-Embedding-2B)"
            )
        return folder, config, folder
    name, beside = (base, None) if base is not None else (base_name(config, folder), folder)
    return folder, config, find_folder(name, beside, may_fetch)


def family_of(config: dict[str, Any]) -> Family:
    """A stock Qwen3-VL says so; Tempo's layout is an LLM's config that names the SVLM's."""
    return QWEN3_VL if config.get("model_type") == "qwen3_vl" else TEMPO


def identity_of(name: str, weights: WeightFiles, config: dict[str, Any], base: Path) -> ModelIdentity:
    """``config``: the checkpoint's own; ``base``: the folder of the SVLM that it began as."""
    levels, hidden = state_shape(base)
    family = family_of(config)
    vision, text = weight_hashes(weights, family)
    return ModelIdentity(
        id=name,
        family=family,
        geometry=frame_geometry(config, weights.folder),
        vision_sha256=vision,
        text_sha256=text,
        state_levels=levels,
        state_hidden=hidden,
        absent_below=absent_below(config, weights.folder),
    )


def state_shape(base: Path) -> tuple[int, int]:
    """(levels, hidden) of the base's states, remembered by its config's size and time (parsing loads transformers)."""
    try:
        status = (base / "config.json").stat()
    except OSError as error:
        raise CheckpointError(f"{base / 'config.json'}: {error}") from error
    key = f"{base.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    match recall(_SHAPES, key):
        case [int(levels), int(hidden)]:
            return levels, hidden
    vision = svlm_config(base).vision_config
    shape = 1 + len(vision.deepstack_visual_indexes), int(vision.out_hidden_size)
    remember(_SHAPES, key, shape)
    return shape


def weight_hashes(weights: WeightFiles, family: Family) -> tuple[str, str]:
    """(vision, text) weights' SHA-256, remembered by the files' sizes and times: 4 GB take seconds to hash."""
    key = f"{weights.folder.resolve()}|{weights.stamp()}"
    match recall(_HASHES, key):
        case [str(vision), str(text)]:
            return vision, text
    hashes = (weights.sha256(family.vision), weights.sha256(family.text))
    remember(_HASHES, key, hashes)
    return hashes
