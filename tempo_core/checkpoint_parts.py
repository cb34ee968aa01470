"""What checkpoints of all families are made of, and the checks that all of them pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tempo_core import modules
from tempo_core.errors import CheckpointError, NotFinite, UsageError
from tempo_core.feature_model import FeatureModel
from tempo_core.model_identity import Family, ModelIdentity
from tempo_core.pixels import patchify
from tempo_core.prompts import PromptEncoder
from tempo_core.reader import Reader
from tempo_core.router import Router
from tempo_core.values import SegmentPixels
from tempo_core.weights import WeightFiles


@dataclass(frozen=True)
class Checkpoint(ModelIdentity):
    """A loaded model: ``router`` reads videos and judges segments, ``reader`` answers.

    ``load_featurer``: where an embedding model makes the features, loads it, or gives it if it did before.
    """

    router: Router
    reader: Reader
    load_featurer: Callable[[], FeatureModel] | None = field(default=None, kw_only=True)

    @property
    def featurer(self) -> FeatureModel:
        """What makes features of segments and questions; CheckpointError where it cannot be loaded."""
        return self.router if self.load_featurer is None else self.load_featurer()

    def compile(self) -> None:
        """Compiles both models' layers as they are next called, half a minute on a GPU: for one that answers for long.

        PyTorch keeps what it compiled on disk between starts.
        """
        self.router.compile()
        self.reader.compile()


@dataclass(frozen=True)
class Target:
    """What weights are loaded as, and where to."""

    dtype: torch.dtype
    device: torch.device


def find_device(name: str) -> torch.device:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CheckpointError("no CUDA device is available to this PyTorch; use the device cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device {name!r}; use cpu, cuda or cuda:N") from None


def require_finite(router: Router, folder: Path, featurer: FeatureModel | None = None) -> None:
    """CheckpointError where the score of a white picture is not finite, so that no video is blamed for the weights.

    Vision tower, text model and relevance direction all go into a score. ``featurer``: the feature is tested instead.
    """
    patches, grid = patchify(np.full((2, 64, 64, 3), 255, np.uint8))
    states = router.encode([SegmentPixels(patches, grid, (0.0,))])
    try:
        if featurer is not None:
            featurer.features(states)
        else:
            router.relevance(states, "")
    except NotFinite:
        raise CheckpointError(
            f"{folder}: the model computes numbers that are not finite from a white picture: its weights are damaged; "
            "download them again"
        ) from None


def load_svlm(weights: WeightFiles, family: Family, config: Any, target: Target) -> tuple[nn.Module, nn.Module]:
    """The vision tower and the text model. ``config``: a Qwen3VLConfig."""
    vision, text = modules.vision_tower(config.vision_config), modules.text_model(config.text_config)
    modules.fill(vision, weights, family.vision, target.dtype, target.device)
    modules.fill(text, weights, family.text, target.dtype, target.device)
    return vision, text


def relevance_direction(head: torch.Tensor, prompts: PromptEncoder) -> torch.Tensor:
    """The positive token's row of an lm_head [vocabulary, D] less the negative's, in float32."""
    positive, negative = prompts.relevance_ids()
    return head[positive].float() - head[negative].float()


def stop_ids(eos: Any, prompts: PromptEncoder) -> frozenset[int]:
    """A config's end-of-sequence id or ids, and the chat's end of turn."""
    listed: Iterable[Any] = eos if isinstance(eos, list) else [eos]
    return frozenset(int(i) for i in [*listed, prompts.token_id("<|im_end|>")] if i is not None)
