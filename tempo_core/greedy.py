"""Greedy generation by the answering LLM over a static KV slab; on CUDA, one token is one replayed CUDA graph.

Floor of a token: the weights' bytes over the memory bandwidth (4 B in bf16 on an H200: 8 GB / 4.3 TB/s = 1.9 ms).
Eager launches of the same kernels take about 34 ms (1,115 ms for 33 tokens), so they are captured.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tempo_core.errors import AnswerInterrupted
from tempo_core.modules import Deepstack, compile_layers, run_layers

_SLAB_STEP = 2048  # tokens by which the slab grows: one captured graph serves every prompt that fits it


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


class _Slab:
    """One prompt's KV cache [layers, 2, 1, KV heads, length, head size]; ``slot`` (1,) is where the next token goes.

    ``position`` (1,) is its place in the sequence: another one where frame pairs take fewer places than tokens.
    """

    def __init__(self, config: Any, length: int, like: torch.Tensor) -> None:
        shape = (config.num_hidden_layers, 2, 1, config.num_key_value_heads, length, config.head_dim)
        self.kv = torch.zeros(shape, device=like.device, dtype=like.dtype)
        self.slot = torch.zeros(1, dtype=torch.long, device=like.device)
        self.position = torch.zeros(1, dtype=torch.long, device=like.device)
        self.mask = torch.zeros(1, 1, 1, length, dtype=torch.bool, device=like.device)
        self.token = torch.zeros(1, 1, dtype=torch.long, device=like.device)
        self.prefilling = True
        self.axes: tuple[int, ...] = (1,)

    @property
    def length(self) -> int:
        return int(self.kv.shape[4])

    def start(self, length: int, position: int, axes: tuple[int, ...]) -> None:
        """Generation begins behind ``length`` prefilled tokens. ``axes``: of a position, (1,), or (3, 1) in M-RoPE."""
        self.prefilling, self.axes = False, axes
        self.slot.fill_(length)
        self.position.fill_(position)
        self.mask.zero_()
        self.mask[..., :length] = True

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores the new keys and values. Returns them alone while prefilling (causal), then the whole slab."""
        slab = self.kv[layer_idx]
        if self.prefilling:
            slab[0, :, :, : keys.shape[2]] = keys
            slab[1, :, :, : values.shape[2]] = values
            return keys, values
        slab[0].index_copy_(2, self.slot, keys)
        slab[1].index_copy_(2, self.slot, values)
        return slab[0], slab[1]


class GreedyGenerator:
    """Prefills a prompt and yields greedy tokens. One prompt at a time: the slab is kept between prompts."""

    def __init__(self, llm: nn.Module) -> None:
        self._llm: Any = llm
        self._slab: _Slab | None = None
        self._graph: Any = None
        self._prompts = 0  # prefilled so far: an answer whose prompt is not the last one has lost the slab
        self._lock = threading.RLock()  # a step of one thread inside another's would mix their answers

    def compile(self) -> None:
        """See ``Checkpoint.compile``."""
        compile_layers(self._llm.model.layers)

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, room: int = 0) -> torch.Tensor:
        """Logits (vocabulary,) of the first token behind the prompt; keeps room for more tokens."""
        length = len(prompt)
        with self._lock:
            self._prompts += 1
            slab = self._reserve(length + room, prompt.embeds)
            slab.prefilling = True
            if prompt.positions is None:
                positions, position = torch.arange(length, device=prompt.embeds.device)[None], length
            else:
                assert prompt.next_position is not None
                positions, position = prompt.positions[:, None], prompt.next_position
            logits = self._logits(prompt.embeds[None], positions, None, slab, prompt.deepstack)
            slab.start(length, position, tuple(positions.shape[:-1]))
            return logits

    @torch.inference_mode()
    def greedy(self, prompt: Prompt, max_new_tokens: int) -> Iterator[int]:
        """Up to ``max_new_tokens`` token ids; the caller stops at the end of turn."""
        if max_new_tokens < 1:
            return
        with self._lock:
            first = self.prefill(prompt, room=max_new_tokens).argmax()
            assert self._slab is not None
            slab, number = self._slab, self._prompts
            slab.token.fill_(first)
        yield int(first)
        for _ in range(max_new_tokens - 1):
            yield self._next(slab, number)

    def _next(self, slab: _Slab, number: int) -> int:
        with self._lock:
            if self._prompts != number:
                raise AnswerInterrupted("another question took the model before this answer was complete; ask again")
            self._advance(slab)
            return int(slab.token)

    def _advance(self, slab: _Slab) -> None:
        if not slab.kv.is_cuda:
            self._one_token(slab)
            return
        if self._graph is None:
            self._graph = self._capture(slab)
        self._graph.replay()

    def _one_token(self, slab: _Slab) -> None:
        """Replaces ``slab.token``, which stands at ``slab.slot``, by the next one. No branch depends on a value of the
        device, so a CUDA graph can capture it."""
        slab.mask.index_fill_(3, slab.slot, True)
        embeds = self._llm.model.embed_tokens(slab.token)
        logits = self._logits(embeds, slab.position.expand(*slab.axes, 1), slab.mask, slab)
        slab.token.copy_(logits.argmax().reshape(1, 1))
        slab.slot.add_(1)
        slab.position.add_(1)

    def _capture(self, slab: _Slab) -> Any:
        """A CUDA graph of ``_one_token``. Capturing needs a run before it, whose changes are undone here; the slab
        row that it writes is written again, with the same values, by the first replay."""
        before = [(tensor, tensor.clone()) for tensor in (slab.slot, slab.position, slab.token, slab.mask)]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._one_token(slab)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._one_token(slab)
        for tensor, value in before:
            tensor.copy_(value)
        return graph

    def _reserve(self, length: int, like: torch.Tensor) -> _Slab:
        if self._slab is None or self._slab.length < length:
            self._graph, self._slab = None, None
            rounded = -(-length // _SLAB_STEP) * _SLAB_STEP
            self._slab = _Slab(self._llm.config, rounded, like)
        return self._slab

    def _logits(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        slab: _Slab,
        deepstack: Deepstack | None = None,
    ) -> torch.Tensor:
        """(vocabulary,) float32 logits behind the last of ``hidden`` [1, q, hidden]."""
        model = self._llm.model
        hidden = run_layers(model, hidden, positions, mask, slab, deepstack)
        logits: torch.Tensor = self._llm.lm_head(model.norm(hidden[:, -1]))
        return logits[0].float()
