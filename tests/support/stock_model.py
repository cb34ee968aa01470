"""The golden base checkpoint as transformers itself runs it: the oracle of every reader."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from tests.support.golden_cases import BASE


@cache
def stock_model() -> Any:
    from transformers import Qwen3VLForConditionalGeneration

    model: Any = Qwen3VLForConditionalGeneration.from_pretrained(BASE, dtype=torch.float32, attn_implementation="sdpa")
    return model.eval()


@cache
def tokenizer() -> Any:
    from transformers import Qwen2Tokenizer

    return Qwen2Tokenizer.from_pretrained(BASE)
