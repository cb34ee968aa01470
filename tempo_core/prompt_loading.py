"""Loading the tokenizer of a checkpoint, strictly: what a prompt needs must be there. No torch."""

from __future__ import annotations

from pathlib import Path

from jinja2 import TemplateError
from transformers import Qwen2Tokenizer

from tempo_core.checkpoint_config import first_line, require_tokenizer
from tempo_core.errors import CheckpointError
from tempo_core.feature_prompt import FeaturePrompt
from tempo_core.prompts import LLM_SYSTEM, TEMPO_ROUTING, PromptEncoder, RoutingPrompt

_CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
_VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")


def load_prompts(
    folder: Path, routing: RoutingPrompt | None = None, features: FeaturePrompt | None = None
) -> PromptEncoder:
    """The folder's tokenizer with its chat template. ``routing``, ``features``: of a model that sees, as it is asked.

    CheckpointError where the tokenizer lacks a token that is needed, or the template loses text.
    """
    require_tokenizer(folder)
    sees = _VISION_TOKENS if routing or features else ()
    needed = (*_CHAT_TOKENS, *sees, *((routing.positive, routing.negative) if routing else ()))
    try:
        tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({first_line(error)})") from error
    missing = [token for token in needed if token not in tokenizer.get_vocab()]
    if missing or not tokenizer.chat_template:
        raise CheckpointError(f"{folder}: the tokenizer has no {missing[0] if missing else 'chat template'}")
    prompts = PromptEncoder(tokenizer, routing or TEMPO_ROUTING, features)
    try:
        head = prompts.decode(prompts.answer_head())
    except TemplateError as error:
        raise CheckpointError(f"{folder}: the chat template does not work ({first_line(error)})") from error
    if LLM_SYSTEM not in head:
        raise CheckpointError(f"{folder}: tokenizer and chat template lose text: a prompt reads {head!r}")
    return prompts
