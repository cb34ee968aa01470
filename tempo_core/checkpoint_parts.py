"""What checkpoints of all families are made of, and the checks that all of them pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from torch import nn
from transformers import Qwen2Tokenizer

from tempo_core import modules
from tempo_core.checkpoint_config import first_line, require_tokenizer
from tempo_core.errors import CheckpointError, NotFinite, UsageError
from tempo_core.model_identity import Family, ModelIdentity
from tempo_core.pixels import patchify
from tempo_core.prompts import LLM_SYSTEM, TEMPO_ROUTING, PromptEncoder, RoutingPrompt
from tempo_core.reader import Reader
from tempo_core.router import Router
from tempo_core.values import SegmentPixels
from tempo_core.weights import WeightFiles

_CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
_VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")


@dataclass(frozen=True)
class Checkpoint(ModelIdentity):
    """A loaded model: ``router`` reads videos and judges segments, ``reader`` answers."""

    router: Router
    reader: Reader


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


def require_finite(router: Router, folder: Path) -> None:
    """CheckpointError where the score of a white picture is not finite, so that no video is blamed for the weights.

    Vision tower, text model and relevance direction all go into a score.
    """
    patches, grid = patchify(np.full((2, 64, 64, 3), 255, np.uint8))
    try:
        router.relevance(router.encode([SegmentPixels(patches, grid, (0.0,))]), "")
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


def load_prompts(folder: Path, routing: RoutingPrompt | None = None) -> PromptEncoder:
    """The folder's tokenizer with its chat template. ``routing``: of a model that sees; None: of one of text alone."""
    require_tokenizer(folder)
    needed = (*_CHAT_TOKENS, *((*_VISION_TOKENS, routing.positive, routing.negative) if routing else ()))
    try:
        tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({first_line(error)})") from error
    missing = [token for token in needed if token not in tokenizer.get_vocab()]
    if missing or not tokenizer.chat_template:
        raise CheckpointError(f"{folder}: the tokenizer has no {missing[0] if missing else 'chat template'}")
    prompts = PromptEncoder(tokenizer, routing or TEMPO_ROUTING)
    try:
        head = prompts.decode(prompts.answer_head())
    except TemplateError as error:
        raise CheckpointError(f"{folder}: the chat template does not work ({first_line(error)})") from error
    if LLM_SYSTEM not in head:
        raise CheckpointError(f"{folder}: tokenizer and chat template lose text: a prompt reads {head!r}")
    return prompts


def relevance_direction(head: torch.Tensor, prompts: PromptEncoder) -> torch.Tensor:
    """The positive token's row of an lm_head [vocabulary, D] less the negative's, in float32."""
    positive, negative = prompts.relevance_ids()
    return head[positive].float() - head[negative].float()


def stop_ids(eos: Any, prompts: PromptEncoder) -> frozenset[int]:
    """A config's end-of-sequence id or ids, and the chat's end of turn."""
    listed: Iterable[Any] = eos if isinstance(eos, list) else [eos]
    return frozenset(int(i) for i in [*listed, prompts.token_id("<|im_end|>")] if i is not None)
