"""A language model that answers from a prompt of embeddings.

Every answer is a ``Prompt`` and its ``token_ids`` (greedy); ``text_pieces`` is for one that is shown as it grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tempo_core.errors import BudgetError
from tempo_core.greedy import GreedyGenerator, Prompt
from tempo_core.prompts import PromptEncoder


class Reader:
    """``context_tokens``: the longest prompt and answer together. ``stop_ids``: the ends of a turn."""

    def __init__(self, llm: Any, prompts: PromptEncoder, context_tokens: int, stop_ids: frozenset[int]) -> None:
        self._embed: Any = llm.get_input_embeddings()
        self._prompts = prompts
        self._stop_ids = stop_ids
        self._generator = GreedyGenerator(llm)
        self.context_tokens = context_tokens

    def compile(self) -> None:
        """See ``Checkpoint.compile``."""
        self._generator.compile()

    @property
    def device(self) -> torch.device:
        """Where the LLM computes."""
        device: torch.device = self._embed.weight.device
        return device

    def title_tokens(self, title: str) -> int:
        """Prompt tokens that introduce a video."""
        return len(self._prompts.title(title))

    def text_pieces(self, token_ids: Iterable[int]) -> Iterator[str]:
        """The text of token ids, special tokens left out, in pieces that end with whole characters."""
        return self._prompts.text_pieces(token_ids)

    @torch.inference_mode()
    def token_ids(self, prompt: Prompt, max_new_tokens: int) -> Iterator[int]:
        """Greedy token ids until the end of turn (not yielded) or ``max_new_tokens``."""
        if len(prompt) + max_new_tokens > self.context_tokens:
            raise BudgetError(
                f"the prompt of {len(prompt)} tokens and an answer of up to {max_new_tokens} exceed the LLM's context "
                f"of {self.context_tokens}; lower the token budget or ask about fewer segments"
            )
        for token_id in self._generator.greedy(prompt, max_new_tokens):
            if token_id in self._stop_ids:
                return
            yield token_id

    @torch.inference_mode()
    def next_logits(self, prompt: Prompt) -> npt.NDArray[np.float32]:
        """Logits of the first answer token, float32 (vocabulary,)."""
        return self._generator.prefill(prompt).cpu().numpy()

    def _embed_ids(self, ids: list[int]) -> torch.Tensor:
        embeds: torch.Tensor = self._embed(torch.tensor(ids, dtype=torch.long, device=self.device))
        return embeds
