"""Greedy answers of many prompts at once, and the prompts of one question under many token allocations.

A reader answers one prompt after the other, as a user asks; an experiment asks 50 variants of each
question. The prompt is the reader's own: the one with every memory token is built, each variant takes rows of it.

Shapes: S segments, K memory tokens of a segment, B prompts, N longest prompt, H hidden of the LLM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tempo_core.answerer import Answerer
from tempo_core.errors import BudgetError
from tempo_core.greedy import Prompt
from tempo_core.modules import Deepstack, run_layers
from tempo_core.reader import Reader

ANSWER_TOKENS = 8  # the longest answer is a colour and a shape, or four digits
BATCH_TOKENS = 1 << 16  # padded prompt tokens of a forward pass
Kept = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WholePrompt:
    """A question's prompt with all memory tokens: ``embeds`` [length, H].

    ``segment`` [length]: whose tag or memory token a row is, -1 for chat and question. ``token`` [length]: which
    memory token, -1 for text.
    """

    embeds: torch.Tensor
    segment: npt.NDArray[np.int64]
    token: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.segment)

    def rows(self, kept: Kept) -> npt.NDArray[np.int64]:
        """Rows of the prompt with only the ``kept`` [S, K] memory tokens; a segment without any loses its tag too."""
        padded = np.vstack([np.column_stack([kept, kept.any(axis=1)]), np.ones(kept.shape[1] + 1, dtype=np.bool_)])
        found: npt.NDArray[np.int64] = padded[self.segment, self.token].nonzero()[0]
        return found

    def cut(self, kept: Kept) -> Prompt:
        """The prompt with only the ``kept`` memory tokens."""
        return Prompt(self.embeds[torch.from_numpy(self.rows(kept)).to(self.embeds.device)], tag_tokens=0)


def whole_prompt(
    answerer: Answerer, question: str, tag_times_s: Sequence[float], memory: Sequence[torch.Tensor]
) -> WholePrompt:
    """The prompt of ``question`` with all of ``memory``, per segment (K, SVLM hidden)."""
    prompt = answerer.prompt(question, tag_times_s, memory)
    head = len(answerer._prompts.answer_head())
    segment, token = [np.full(head, -1)], [np.full(head, -1)]
    for index, (time_s, tokens) in enumerate(zip(tag_times_s, memory, strict=True)):
        tag = answerer.tag_tokens(time_s)
        segment.append(np.full(tag + len(tokens), index))
        token += [np.full(tag, -1), np.arange(len(tokens))]
    tail = len(prompt) - sum(map(len, segment))
    assert head + tail == answerer.fixed_tokens(question)
    text = np.full(tail, -1)
    return WholePrompt(prompt.embeds, np.concatenate([*segment, text]), np.concatenate([*token, text]))


class _Slab:
    """KV caches of B prompts as the decoder layers call them; ``slots`` [B]: where each one's next token goes.

    ``positions`` [B]: its place in the sequence, another one where frame pairs take fewer places than tokens.
    """

    def __init__(self, layers: int, room: int) -> None:
        self.kv: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.slots = self.positions = torch.zeros(0, dtype=torch.long)
        self._layers, self._room = layers, room

    @property
    def mask(self) -> torch.Tensor:
        """Boolean [B, 1, 1, N + room]: each prompt's own tokens, up to the new one."""
        places = torch.arange(self.kv[0][0].shape[2], device=self.slots.device)
        return (places[None] <= self.slots[:, None])[:, None, None]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, heads, q, D] of the new tokens in, what they attend to out."""
        if len(self.kv) < self._layers:
            pad = (0, 0, 0, self._room)
            self.kv.append((torch.nn.functional.pad(keys, pad), torch.nn.functional.pad(values, pad)))
            return keys, values
        rows = torch.arange(len(keys), device=keys.device)
        for kept, new in zip(self.kv[layer_idx], (keys, values), strict=True):
            kept[rows, :, self.slots] = new[:, :, 0]
        return self.kv[layer_idx]


class BatchedAnswers:
    """A reader's greedy texts, many prompts in a forward pass."""

    def __init__(self, reader: Reader, answer_tokens: int = ANSWER_TOKENS, batch_tokens: int = BATCH_TOKENS) -> None:
        self._reader = reader
        self._llm: Any = reader._llm
        self._new, self._batch_tokens = answer_tokens, batch_tokens
        self._texts: dict[tuple[int, ...], str] = {}

    @torch.inference_mode()
    def texts(self, prompts: Sequence[Prompt]) -> list[str]:
        """The answer to each prompt, without special tokens and surrounding spaces."""
        found: dict[int, str] = {}
        for batch in self._batches([len(prompt) for prompt in prompts]):
            ids = self._generate([prompts[index] for index in batch])
            found |= {index: self._text(row) for index, row in zip(batch, ids, strict=True)}
        return [found[index] for index in range(len(prompts))]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Prompts of about one length together; their padded tokens stay within the bound."""
        batch: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
            if lengths[index] + self._new > self._reader.context_tokens:
                raise BudgetError(f"a prompt of {lengths[index]} tokens exceeds the LLM's context")
            if batch and lengths[index] * (len(batch) + 1) > self._batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _generate(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Right padding needs no mask in the prefill: attention is causal; later the mask leaves it out."""
        slab = _Slab(len(self._llm.model.layers), self._new)
        hidden = torch.nn.utils.rnn.pad_sequence([prompt.embeds for prompt in prompts], batch_first=True)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=hidden.device)
        positions, slab.positions = _positions(prompts, hidden.device)
        hidden = run_layers(self._llm.model, hidden, positions, None, slab, _deepstack(prompts, hidden.shape[1]))
        last = hidden[torch.arange(len(prompts), device=hidden.device), lengths - 1]
        stops = torch.tensor(sorted(self._reader._stop_ids), device=hidden.device)
        slab.slots, tokens = lengths, [self._next(last)]
        ended = torch.isin(tokens[0], stops)
        while len(tokens) < self._new and not bool(ended.all()):
            embeds = self._llm.model.embed_tokens(tokens[-1][:, None])
            hidden = run_layers(self._llm.model, embeds, slab.positions[..., None], slab.mask, slab)
            slab.slots, slab.positions = slab.slots + 1, slab.positions + 1
            tokens.append(self._next(hidden[:, -1]))
            ended |= torch.isin(tokens[-1], stops)
        return torch.stack(tokens, dim=1).tolist()

    def _next(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B] token ids behind ``hidden`` [B, H]."""
        logits: torch.Tensor = self._llm.lm_head(self._llm.model.norm(hidden))
        return logits.float().argmax(dim=-1)

    def _text(self, ids: Sequence[int]) -> str:
        stop = next((place for place, token in enumerate(ids) if token in self._reader._stop_ids), len(ids))
        key = tuple(ids[:stop])
        if key not in self._texts:
            self._texts[key] = self._reader._prompts.decode(list(key)).strip()
        return self._texts[key]


def _positions(prompts: Sequence[Prompt], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all tokens, [B, N] or with three axes [3, B, N], and of what follows them, [B] or [3, B]."""
    own = [prompt.positions for prompt in prompts if prompt.positions is not None]
    if not own:
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        return torch.arange(int(lengths.max()), device=device)[None], lengths
    following = torch.tensor([prompt.next_position or 0 for prompt in prompts], device=device)
    padded = torch.nn.utils.rnn.pad_sequence([positions.T for positions in own], batch_first=True)
    return padded.permute(2, 0, 1), following.expand(3, -1)


def _deepstack(prompts: Sequence[Prompt], length: int) -> Deepstack | None:
    """Those of all prompts, each ``length`` long in the batch."""
    found = [(row * length, *prompt.deepstack) for row, prompt in enumerate(prompts) if prompt.deepstack is not None]
    if not found:
        return None
    return torch.cat([begin + where for begin, where, _ in found]), torch.cat([levels for *_, levels in found], dim=1)
