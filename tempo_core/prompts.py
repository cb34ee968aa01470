"""The two prompts of the method as token ids and positions (paper, appendix "Prompts"). No torch.

SVLM:  [chat head][<T seconds>][frame pair]... | [\\nQuery:\\n + question][chat tail]
       the part before the bar is the prefix; it ends behind <|vision_end|>, which no token can straddle.
LLM:   [chat head][<T seconds>][memory tokens]...[\\n + question][chat tail]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers.decoders import DecodeStream

from tempo_core.errors import BudgetError

IntArray = npt.NDArray[np.int64]

SVLM_SYSTEM = (
    "You are a query-conditioned visual compressor. Store in the provided memory tokens the minimal visual "
    "information needed to answer the Query. Ignore irrelevant details. Now, before compressing, answer exactly "
    "'Yes' or 'No': is this segment relevant to the Query?"
)
LLM_SYSTEM = "You are a helpful assistant."
EMPTY_QUESTION = "Describe this content."
# A question is read over every segment, and its KV kept: 512 tokens over 128 segments are 7.5 GB at 2 B in bf16.
MAX_QUESTION_TOKENS = 512
# The fixed suffix of the relevance-ready feature: sum up in one word (the idea of E5-V, arXiv 2407.12580).
SEGMENT_SUMMARY = "\nSummary of the video segment above in one word:"
QUESTION_SUMMARY = "\nSummary of the text above in one word:"


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> list[int]: ...
    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...
    def convert_tokens_to_ids(self, tokens: str) -> int: ...
    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str: ...
    @property
    def backend_tokenizer(self) -> tokenizers.Tokenizer: ...


@dataclass(frozen=True)
class PrefixTokens:
    """A segment's prefix. ``ids``: (length,). ``positions``: (3, length), M-RoPE time, height, width.

    ``is_visual``: (length,) marks the positions that the visual states fill. ``next_position``: where text goes on.
    """

    ids: IntArray
    positions: IntArray
    is_visual: npt.NDArray[np.bool_]
    next_position: int


def time_tag(time_s: float) -> str:
    """``<T seconds>`` with one decimal, as the model was trained to read it."""
    return f"<{time_s:.1f} seconds>"


class PromptEncoder:
    """Builds prompts with one tokenizer. Untrusted text is encoded with special tokens off: it stays text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._vision_start = tokenizer.convert_tokens_to_ids("<|vision_start|>")
        self._vision_end = tokenizer.convert_tokens_to_ids("<|vision_end|>")
        self._video_pad = tokenizer.convert_tokens_to_ids("<|video_pad|>")

    def prefix(self, grid_thw: tuple[int, int, int], pair_times_s: Sequence[float], merge: int) -> PrefixTokens:
        """The question-independent part of a segment's SVLM prompt."""
        head, _ = self._chat(SVLM_SYSTEM)
        rows, columns = grid_thw[1] // merge, grid_thw[2] // merge
        ids: list[int] = []
        positions: list[IntArray] = []
        visual: list[bool] = []
        position = 0
        for pair, time_s in enumerate(pair_times_s):
            text = self._trusted((head if pair == 0 else "") + time_tag(time_s)) + [self._vision_start]
            block = [self._video_pad] * (rows * columns)
            positions += [_text_positions(position, len(text))]
            position += len(text)
            positions += [_block_positions(position, rows, columns), _text_positions(position + max(rows, columns), 1)]
            position += max(rows, columns) + 1
            ids += [*text, *block, self._vision_end]
            visual += [False] * len(text) + [True] * len(block) + [False]
        return PrefixTokens(np.array(ids), np.concatenate(positions, axis=1), np.array(visual), position)

    def question_suffix(self, question: str) -> list[int]:
        """What follows the prefix: the question and the chat's tail; the relevance is read at its last token."""
        _, tail = self._chat(SVLM_SYSTEM)
        return self._question("\nQuery:\n", question or EMPTY_QUESTION) + self._trusted(tail)

    def summary_suffix(self) -> list[int]:
        """What follows the prefix when the segment's feature is made."""
        _, tail = self._chat(SVLM_SYSTEM)
        return self._trusted(SEGMENT_SUMMARY + tail)

    def question_summary(self, question: str) -> list[int]:
        """The whole prompt whose last hidden state is the question's feature."""
        head, tail = self._chat(SVLM_SYSTEM)
        text = self._question("", question or EMPTY_QUESTION)
        return self._trusted(head) + text + self._trusted(QUESTION_SUMMARY + tail)

    def answer_head(self) -> list[int]:
        """The LLM prompt up to the first time tag."""
        return self._trusted(self._chat(LLM_SYSTEM)[0])

    def answer_tail(self, question: str) -> list[int]:
        """The LLM prompt behind the last memory token."""
        return self._question("\n", question) + self._trusted(self._chat(LLM_SYSTEM)[1])

    def tag(self, time_s: float) -> list[int]:
        """A segment's time tag."""
        return self._trusted(time_tag(time_s))

    def title(self, title: str) -> list[int]:
        """The line that introduces a video where several are asked about."""
        return self._untrusted(f"\nVideo: {title}\n")

    def token_id(self, token: str) -> int:
        """The id of a bare vocabulary entry."""
        return self._tokenizer.convert_tokens_to_ids(token)

    def decode(self, token_ids: list[int]) -> str:
        """Text of token ids, special tokens left out."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)

    def text_pieces(self, token_ids: Iterable[int]) -> Iterator[str]:
        """The same text as ``decode`` gives, each piece as soon as its characters' bytes are all there."""
        stream, ids, length = DecodeStream(skip_special_tokens=True), [], 0
        for token_id in token_ids:
            ids.append(token_id)
            if piece := stream.step(self._tokenizer.backend_tokenizer, token_id):
                length += len(piece)
                yield piece
        if cut_off := self.decode(ids)[length:]:  # a last character whose bytes are not all there
            yield cut_off

    def _chat(self, system: str) -> tuple[str, str]:
        """The chat template's text around the user's content."""
        mark = "\x00"
        conversation = [{"role": "system", "content": system}, {"role": "user", "content": mark}]
        text = self._tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        head, _, tail = text.partition(mark)
        return head, tail

    def _trusted(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=False)

    def _question(self, lead: str, question: str) -> list[int]:
        """BudgetError for a question of more than ``MAX_QUESTION_TOKENS``."""
        ids = self._untrusted(lead + question)
        if len(ids) > MAX_QUESTION_TOKENS:
            raise BudgetError(
                f"the question is {len(ids):,} tokens long; at most {MAX_QUESTION_TOKENS} can be asked: shorten it"
            )
        return ids

    def _untrusted(self, text: str) -> list[int]:
        """Half a surrogate pair (bytes of a file name or argument that are no UTF-8) reads as a question mark."""
        whole = text.encode("utf-8", "replace").decode()
        return self._tokenizer.encode(whole, add_special_tokens=False, split_special_tokens=True)


def _text_positions(start: int, count: int) -> IntArray:
    return np.broadcast_to(np.arange(start, start + count), (3, count))


def _block_positions(start: int, rows: int, columns: int) -> IntArray:
    """One frame pair: one temporal position, a grid of heights and widths (M-RoPE)."""
    height, width = np.divmod(np.arange(rows * columns), columns)
    return start + np.stack([np.zeros_like(height), height, width])
