"""A language model that answers from a prompt of embeddings.

Every answer is a ``Prompt`` and its ``token_ids`` (greedy); ``text_pieces`` is for one that is shown as it grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tempo_core.greedy import GreedyBatch, Prompt, greedy
from tempo_core.modules import compile_layers
from tempo_core.prompts import PromptEncoder


class Reader:
    """``context_tokens``: the longest prompt and answer together. ``stop_ids``: the ends of a turn."""

    def __init__(self, llm: Any, prompts: PromptEncoder, context_tokens: int, stop_ids: frozenset[int]) -> None:
        self._embed: Any = llm.get_input_embeddings()
        self._prompts = prompts
        self._stop_ids = stop_ids
        self._llm: Any = llm
        self._spare: list[GreedyBatch] = []  # of answers that were read alone, with the memory that they grew in
        self.context_tokens = context_tokens

    def compile(self) -> None:
        """See ``Checkpoint.compile``."""
        compile_layers(self._llm.model.layers)

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

    @property
    def token_nbytes(self) -> int:
        """Bytes of one token's keys and values."""
        config, weight = self._llm.config, self._embed.weight
        heads, width = int(config.num_key_value_heads), int(config.head_dim)
        return 2 * int(config.num_hidden_layers) * heads * width * int(weight.element_size())

    def batch(self, most_tokens: int = 0) -> GreedyBatch:
        """An empty batch for answers that grow side by side, in memory for about ``most_tokens``."""
        return GreedyBatch(self._llm, self.context_tokens, self._stop_ids, most_tokens)

    def token_ids(self, prompt: Prompt, max_new_tokens: int) -> Iterator[int]:
        """Greedy token ids of one answer alone, until the end of turn (not yielded) or ``max_new_tokens``.

        BudgetError where prompt and answer exceed the LLM's context.
        """
        with self._alone() as batch:
            yield from greedy(batch, prompt, max_new_tokens)

    def next_logits(self, prompt: Prompt) -> npt.NDArray[np.float32]:
        """Logits of the first answer token, float32 (vocabulary,)."""
        with self._alone() as batch:
            return batch.logits(prompt).cpu().numpy()

    @contextmanager
    def _alone(self) -> Iterator[GreedyBatch]:
        """A batch with nobody in it. One is kept: what it captured serves the next answer."""
        try:
            batch = self._spare.pop()
        except IndexError:  # none yet, or another thread has it
            batch = self.batch()
        yield batch
        if not self._spare:
            self._spare.append(batch)

    def _embed_ids(self, ids: list[int]) -> torch.Tensor:
        embeds: torch.Tensor = self._embed(torch.tensor(ids, dtype=torch.long, device=self.device))
        return embeds
