"""The answering LLM: time tags and projected memory tokens in, text out (paper, "Global LLM")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tempo_core.errors import UsageError
from tempo_core.greedy import Prompt
from tempo_core.prompts import PromptEncoder
from tempo_core.reader import Reader


@dataclass(frozen=True)
class GeneratedAnswer:
    """``text`` without special tokens; ``token_ids`` as generated; the prompt's length and its tags' share."""

    text: str
    token_ids: list[int]
    prompt_tokens: int
    tag_tokens: int


class Answerer(Reader):
    """The LLM with its projector."""

    def __init__(
        self,
        llm: Any,
        projector: nn.Module,
        prompts: PromptEncoder,
        context_tokens: int,
        stop_ids: frozenset[int],
    ) -> None:
        super().__init__(llm, prompts, context_tokens, stop_ids)
        self._projector = projector

    def fixed_tokens(self, question: str) -> int:
        """Prompt tokens of the chat and the question."""
        return len(self._prompts.answer_head()) + len(self._prompts.answer_tail(question))

    def tag_tokens(self, tag_time_s: float) -> int:
        """Prompt tokens of one time tag."""
        return len(self._prompts.tag(tag_time_s))

    @torch.inference_mode()
    def prompt(
        self,
        question: str,
        tag_times_s: Sequence[float],
        memory: Sequence[torch.Tensor],
        titles: Mapping[int, str] | None = None,
    ) -> Prompt:
        """Chat head, for each segment its tag and projected memory tokens, then the question.

        ``memory``: per segment (k, SVLM hidden). ``titles``: by position of a video's first segment, its title.
        """
        if len(tag_times_s) != len(memory):
            raise UsageError(f"{len(tag_times_s)} time tags for {len(memory)} segments")
        lead = [
            (self._prompts.title(titles[i]) if titles and i in titles else []) + self._prompts.tag(time_s)
            for i, time_s in enumerate(tag_times_s)
        ]
        head, tail = self._prompts.answer_head(), self._prompts.answer_tail(question)
        texts = self._embed_ids([*head, *(token for tags in lead for token in tags), *tail])
        projected = self._project(memory)
        pieces, at = [texts[: len(head)]], len(head)
        for tags, visual in zip(lead, projected, strict=True):
            pieces += [texts[at : at + len(tags)], visual]
            at += len(tags)
        return Prompt(torch.cat([*pieces, texts[at:]]), sum(map(len, lead)))

    def generate(
        self,
        question: str,
        tag_times_s: Sequence[float],
        memory: Sequence[torch.Tensor],
        max_new_tokens: int = 256,
        titles: Mapping[int, str] | None = None,
    ) -> GeneratedAnswer:
        """The whole answer at once. BudgetError where prompt and answer exceed the LLM's context."""
        prompt = self.prompt(question, tag_times_s, memory, titles)
        token_ids = list(self.token_ids(prompt, max_new_tokens))
        return GeneratedAnswer(self._prompts.decode(token_ids), token_ids, len(prompt), prompt.tag_tokens)

    def stream(
        self,
        question: str,
        tag_times_s: Sequence[float],
        memory: Sequence[torch.Tensor],
        max_new_tokens: int = 256,
        titles: Mapping[int, str] | None = None,
    ) -> Iterator[str]:
        """The same answer as pieces of text, as they are generated; joined they equal ``generate(...).text``."""
        prompt = self.prompt(question, tag_times_s, memory, titles)
        yield from self.text_pieces(self.token_ids(prompt, max_new_tokens))

    def _project(self, memory: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """All memory tokens through the projector in one call, split again per segment."""
        counts = [len(tokens) for tokens in memory]
        if not sum(counts):
            empty = self._embed_ids([])
            return tuple(empty for _ in counts)
        joined = torch.cat(list(memory)).to(device=self.device, dtype=self._embed.weight.dtype)
        projected: torch.Tensor = self._projector(joined)
        split: tuple[torch.Tensor, ...] = projected.split(counts)
        return split
