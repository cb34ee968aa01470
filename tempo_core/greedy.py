"""Greedy generation by the answering LLM: answers grow side by side, and join and leave between any two tokens.

Floor of a step: the weights' bytes over the memory bandwidth (4 B in bf16 on an H200: 8 GB / 4.3 TB/s = 1.9 ms),
however many answers share it. Eager launches of the same kernels take about 34 ms (1,115 ms for 33 tokens), so on CUDA
a step is a replayed CUDA graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tempo_core.answer_memory import AnswerMemory
from tempo_core.errors import BudgetError
from tempo_core.modules import Deepstack, run_layers
from tempo_core.places import grown, power_of_two


@dataclass(frozen=True)
class Prompt:
    """The LLM's whole input: ``embeds`` [length, hidden], of which ``tag_tokens`` are time tags and titles.

    ``positions``: [3, length] M-RoPE, and ``next_position`` that of the first generated token; None: one a token.
    """

    embeds: torch.Tensor
    tag_tokens: int
    positions: torch.Tensor | None = None
    next_position: int | None = None
    deepstack: Deepstack | None = None

    def __len__(self) -> int:
        return int(self.embeds.shape[0])


@dataclass(eq=False)
class Place:
    """An answer under way: its ``tokens`` so far, without the end of turn. ``filled``: tokens in its KV cache.

    ``length``: what it may take, the prompt included. ``is_over``: it ended by itself, or it has left.
    """

    filled: int
    length: int
    most_tokens: int
    tokens: list[int] = field(default_factory=list)
    is_over: bool = False


class GreedyBatch:
    """Answers that grow side by side, a token a step. For one thread at a time.

    ``most_tokens``: bound of the memory that is kept without need; who may join is the caller's to decide
    (``places.fits``).
    """

    def __init__(self, llm: nn.Module, context_tokens: int, stop_ids: frozenset[int], most_tokens: int = 0) -> None:
        self._llm: Any = llm
        self._context_tokens, self._stop_ids, self._most_tokens = context_tokens, stop_ids, most_tokens
        self._running: list[Place] = []  # the first has the first row of the memory, and so on: there are no holes
        self._memory: AnswerMemory | None = None
        self._graphs: dict[int, Any] = {}  # by the number of rows that a step computes

    @torch.inference_mode()
    def join(self, prompt: Prompt, max_new_tokens: int) -> Place:
        """A place whose answer has its first token; BudgetError where prompt and answer exceed the LLM's context."""
        length = len(prompt) + max_new_tokens
        if length > self._context_tokens:
            raise BudgetError(
                f"the prompt of {len(prompt)} tokens and an answer of up to {max_new_tokens} exceed the LLM's context "
                f"of {self._context_tokens}; lower the token budget or ask about fewer segments"
            )
        place = Place(len(prompt), length, max_new_tokens, is_over=max_new_tokens < 1)
        if not place.is_over:
            memory, row = self._reserve(length, prompt.embeds), len(self._running)
            first = int(self._prefill(prompt, memory, row).argmax())
            memory.seat(row, first, place.filled, _next_position(prompt))
            self._running.append(place)
            self._take(place, first)
        return place

    @torch.inference_mode()
    def logits(self, prompt: Prompt) -> torch.Tensor:
        """Logits (vocabulary,) of the first token behind a prompt, which takes no place."""
        return self._prefill(prompt, self._reserve(len(prompt), prompt.embeds), len(self._running))

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every answer; those that end by it leave."""
        if not self._running:
            return
        memory, rows = self._held(), len(self._running)
        if memory.device.type == "cuda":
            self._replay(memory, power_of_two(rows))
        else:
            self._one_token(memory, rows)
        for place in self._running:
            place.filled += 1
        for place, token in zip(tuple(self._running), memory.tokens(rows), strict=True):
            self._take(place, token)

    @torch.inference_mode()
    def leave(self, place: Place) -> None:
        """Frees its place; nothing where it is over."""
        if place.is_over:
            return
        place.is_over = True
        row, last = self._running.index(place), self._running.pop()
        if last is not place:
            self._held().move(len(self._running), row, last.filled)
            self._running[row] = last
        self._held().empty(len(self._running))

    def clear(self) -> None:
        """All leave, and the memory is given back: also after an error in the middle of a step."""
        for place in self._running:
            place.is_over = True
        self._running.clear()
        self._graphs.clear()
        self._memory = None

    def _take(self, place: Place, token: int) -> None:
        """A new token of an answer, or its end."""
        is_end = token in self._stop_ids
        if not is_end:
            place.tokens.append(token)
        if is_end or len(place.tokens) == place.most_tokens:
            self.leave(place)

    def _held(self) -> AnswerMemory:
        assert self._memory is not None
        return self._memory

    def _reserve(self, length: int, like: torch.Tensor) -> AnswerMemory:
        """Memory for those that run and one more; graphs of what it was before are dropped."""
        lengths = [*(place.length for place in self._running), length]
        if self._memory is None:
            self._memory = AnswerMemory(self._llm.config, like.device, like.dtype)
        wanted = grown(self._memory.extent, lengths, self._most_tokens)
        if wanted != self._memory.extent:
            self._graphs.clear()
            self._memory.resize(wanted, len(self._running))
        return self._memory

    def _prefill(self, prompt: Prompt, memory: AnswerMemory, row: int) -> torch.Tensor:
        """Logits behind the prompt, whose keys and values are kept in ``row``."""
        if prompt.positions is None:
            positions = torch.arange(len(prompt), device=prompt.embeds.device)[None]
        else:
            positions = prompt.positions[:, None]
        memory.axes = tuple(positions.shape[:-2])
        return self._logits(prompt.embeds[None], positions, None, memory.filling(row), prompt.deepstack)[0]

    def _one_token(self, memory: AnswerMemory, rows: int) -> None:
        """Replaces the newest tokens of the first rows by the next ones. No branch depends on a value of the device, so
        a CUDA graph can capture it. A row that nobody has computes something, in its own row, at one spot."""
        embeds = self._llm.model.embed_tokens(memory.token[:rows, None])
        positions = memory.position[:rows, None].expand(*memory.axes, rows, 1)
        logits = self._logits(embeds, positions, memory.mask(rows), memory)
        memory.advance(logits.argmax(dim=-1))

    def _replay(self, memory: AnswerMemory, rows: int) -> None:
        if rows not in self._graphs:
            self._graphs[rows] = self._capture(memory, rows)
        self._graphs[rows].replay()

    def _capture(self, memory: AnswerMemory, rows: int) -> Any:
        """A CUDA graph of ``_one_token``. Capturing needs a run before it, whose changes are undone here; what it wrote
        of keys and values is written again, with the same values, by the first replay."""
        with memory.unchanged():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._one_token(memory, rows)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # graphs of one batch never run at once, so they share their scratch memory; what other threads do with
            # the device meanwhile is not captured
            pool = next((one.pool() for one in self._graphs.values()), None)
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                self._one_token(memory, rows)
        return graph

    def _logits(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        kv_cache: Any,
        deepstack: Deepstack | None = None,
    ) -> torch.Tensor:
        """(B, vocabulary) float32 logits behind the last of ``hidden`` [B, q, hidden]."""
        model = self._llm.model
        hidden = run_layers(model, hidden, positions, mask, kv_cache, deepstack)
        logits: torch.Tensor = self._llm.lm_head(model.norm(hidden[:, -1]))
        return logits.float()


def greedy(batch: GreedyBatch, prompt: Prompt, max_new_tokens: int) -> Iterator[int]:
    """One answer's tokens; whoever else is in the batch goes on with it."""
    place, told = batch.join(prompt, max_new_tokens), 0
    try:
        while True:
            yield from place.tokens[told:]
            told = len(place.tokens)
            if place.is_over:
                return
            batch.step()
    finally:
        batch.leave(place)


def _next_position(prompt: Prompt) -> int:
    if prompt.positions is None:
        return len(prompt)
    assert prompt.next_position is not None
    return prompt.next_position
