"""The prompts as token ids and positions. No torch.

SVLM:    [chat head][<T seconds>][frame pair]... | [before][question][after][chat tail]
         the part before the bar is the prefix; it ends behind <|vision_end|>, which no token can straddle.
LLM:     [chat head][<T seconds>][memory tokens]...[\\n + question][chat tail]
reader:  [chat head][<T seconds>][frame pair]...[question][chat tail]

The first two are the published ones (paper, appendix "Prompts"). The reader's is that of stock Qwen3-VL as transformers
4.57 and vLLM write it; transformers 5 puts one more pair of <|vision_start|> and <|vision_end|> around all frame pairs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import tokenizers
from tokenizers.decoders import DecodeStream

from tempo_core.errors import BudgetError
from tempo_core.feature_prompt import FeaturePrompt, one_word
from tempo_core.prompt_tokens import PromptTokens, PromptTokensBuilder

PairTimes = tuple[tuple[int, int, int], Sequence[float]]  # a segment's grid (pairs, patch rows, columns), pairs' times

TEMPO_SYSTEM = (
    "You are a query-conditioned visual compressor. Store in the provided memory tokens the minimal visual "
    "information needed to answer the Query. Ignore irrelevant details. Now, before compressing, answer exactly "
    "'Yes' or 'No': is this segment relevant to the Query?"
)
LLM_SYSTEM = "You are a helpful assistant."
EMPTY_QUESTION = "Describe this content."
# A question is read over every segment, and its KV kept: 512 tokens over 128 segments are 7.5 GB at 2 B in bf16.
MAX_QUESTION_TOKENS = 512


@dataclass(frozen=True)
class RoutingPrompt:
    """How a model is asked whether a segment is relevant: the system's words, what stands around the question, and the
    two tokens whose logits are compared."""

    system: str
    before: str
    after: str
    positive: str
    negative: str


# TEMPO_SYSTEM speaks of memory tokens, which a stock model has none of; the rest is asked in the same form.
QWEN3_VL_ROUTING = RoutingPrompt(
    "You are shown a segment of a video and a Query. Answer exactly 'Yes' or 'No': does this segment show visual "
    "information that is needed to answer the Query?",
    "\nQuery:\n",
    "",
    "Yes",
    "No",
)
TEMPO_ROUTING = RoutingPrompt(TEMPO_SYSTEM, "\nQuery:\n", "", "Yes", "No")

# A tokenizer is not for two threads: whether special tokens are on is a state of its own.
_ONE_THREAD = threading.Lock()


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


def time_tag(time_s: float) -> str:
    """``<T seconds>`` with one decimal, as the model was trained to read it."""
    return f"<{time_s:.1f} seconds>"


def title_line(title: str) -> str:
    """The line that introduces a video where several are asked about."""
    return f"\nVideo: {title}\n"


def whole_text(text: str) -> str:
    """Half a surrogate pair (bytes of a file name or argument that are no UTF-8) reads as a question mark."""
    return text.encode("utf-8", "replace").decode()


class PromptEncoder:
    """Builds prompts with one tokenizer. Untrusted text is encoded with special tokens off: it stays text.

    ``features``: how an embedding model is asked for them; None: in one word, behind the prefix that it routes by.
    Threads may share it.
    """

    def __init__(
        self, tokenizer: Tokenizer, routing: RoutingPrompt = TEMPO_ROUTING, features: FeaturePrompt | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._routing = routing
        self._features = features or one_word(routing.system)
        self._vision_start = tokenizer.convert_tokens_to_ids("<|vision_start|>")
        self._vision_end = tokenizer.convert_tokens_to_ids("<|vision_end|>")
        self._video_pad = tokenizer.convert_tokens_to_ids("<|video_pad|>")

    def prefix(self, grid_thw: tuple[int, int, int], pair_times_s: Sequence[float], merge: int) -> PromptTokens:
        """The question-independent part of a segment's SVLM prompt. ``merge``: patches to a token, a side."""
        head, _ = self._chat(self._features.segment_system)
        sequence = PromptTokensBuilder()
        for pair, time_s in enumerate(pair_times_s):
            lead = self._trusted((head if pair == 0 else "") + time_tag(time_s))
            self._add_pair(sequence, lead, grid_thw[1] // merge, grid_thw[2] // merge)
        return sequence.tokens()

    def question_suffix(self, question: str) -> list[int]:
        """What follows the prefix: the question and the chat's tail; the relevance is read at its last token."""
        _, tail = self._chat(self._routing.system)
        question_ids = self._question(self._routing.before, question or EMPTY_QUESTION)
        return question_ids + self._trusted(self._routing.after + tail)

    def relevance_ids(self) -> tuple[int, int]:
        """The positive and the negative token's ids."""
        return self.token_id(self._routing.positive), self.token_id(self._routing.negative)

    def summary_suffix(self) -> list[int]:
        """What follows the prefix when the segment's feature is made."""
        _, tail = self._chat(self._features.segment_system)
        return self._closed(self._features.after_segment + tail)

    def question_summary(self, question: str) -> list[int]:
        """The whole prompt whose last hidden state is the question's feature."""
        head, tail = self._chat(self._features.question_system)
        text = self._question("", question or EMPTY_QUESTION)
        return self._trusted(head) + text + self._closed(self._features.after_question + tail)

    def answer_head(self) -> list[int]:
        """The LLM prompt up to the first time tag."""
        return self._trusted(self._chat(LLM_SYSTEM)[0])

    def answer_tail(self, question: str) -> list[int]:
        """The LLM prompt behind the last memory token."""
        return self._question("\n", question) + self._trusted(self._chat(LLM_SYSTEM)[1])

    def read_pairs(
        self, question: str, segments: Sequence[PairTimes], merge: int, titles: Mapping[int, str] | None = None
    ) -> PromptTokens:
        """The whole prompt of a reader that sees frame pairs. ``titles``: by position of a video's first segment, its
        title."""
        head, tail = self._chat(None)
        sequence = PromptTokensBuilder()
        first = self._trusted(head)
        for position, (grid_thw, pair_times_s) in enumerate(segments):
            first += self.title(titles[position]) if titles and position in titles else []
            for time_s in pair_times_s:
                self._add_pair(sequence, first + self.tag(time_s), grid_thw[1] // merge, grid_thw[2] // merge)
                first = []
        sequence.text(first + self._question("", question or EMPTY_QUESTION) + self._trusted(tail))
        return sequence.tokens()

    def pair_tokens(self, time_s: float, rows: int, columns: int) -> int:
        """Prompt tokens of one frame pair of rows x columns visual tokens: they, its tag and its two marks."""
        return len(self.tag(time_s)) + rows * columns + 2

    def read_tokens(self, question: str) -> int:
        """Prompt tokens of the chat and the question, where frame pairs are read."""
        head, tail = self._chat(None)
        return len(self._trusted(head)) + len(self._question("", question or EMPTY_QUESTION)) + len(self._trusted(tail))

    def tag(self, time_s: float) -> list[int]:
        """A segment's time tag."""
        return self._trusted(time_tag(time_s))

    def title(self, title: str) -> list[int]:
        """The line that introduces a video where several are asked about."""
        return self._untrusted(title_line(title))

    def token_id(self, token: str) -> int:
        """The id of a bare vocabulary entry."""
        return self._tokenizer.convert_tokens_to_ids(token)

    def decode(self, token_ids: list[int]) -> str:
        """Text of token ids, special tokens left out."""
        with _ONE_THREAD:
            return self._tokenizer.decode(token_ids, skip_special_tokens=True)

    def text_pieces(self, token_ids: Iterable[int]) -> Iterator[str]:
        """The same text as ``decode`` gives, each piece as soon as its characters' bytes are all there."""
        stream, ids, length = DecodeStream(skip_special_tokens=True), [], 0
        for token_id in token_ids:
            ids.append(token_id)
            with _ONE_THREAD:
                piece = stream.step(self._tokenizer.backend_tokenizer, token_id)
            if piece:
                length += len(piece)
                yield piece
        if cut_off := self.decode(ids)[length:]:  # a last character whose bytes are not all there
            yield cut_off

    def _add_pair(self, sequence: PromptTokensBuilder, lead: Sequence[int], rows: int, columns: int) -> None:
        sequence.text([*lead, self._vision_start])
        sequence.frame_pair(self._video_pad, rows, columns)
        sequence.text([self._vision_end])

    def _chat(self, system: str | None) -> tuple[str, str]:
        """The chat template's text around the user's content; None: what the template itself begins with."""
        mark = "\x00"
        conversation = [{"role": "user", "content": mark}]
        if system is not None:
            conversation.insert(0, {"role": "system", "content": system})
        text = self._tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        head, _, tail = text.partition(mark)
        return head, tail

    def _trusted(self, text: str) -> list[int]:
        with _ONE_THREAD:
            return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=False)

    def _closed(self, text: str) -> list[int]:
        """The end of a prompt that a feature is read at."""
        closed = self._features.is_closed
        return self._tokenizer.encode(text, add_special_tokens=closed, split_special_tokens=False)

    def _question(self, lead: str, question: str) -> list[int]:
        """BudgetError for a question of more than ``MAX_QUESTION_TOKENS``."""
        ids = self._untrusted(lead + question)
        if len(ids) > MAX_QUESTION_TOKENS:
            raise BudgetError(
                f"the question is {len(ids):,} tokens long; at most {MAX_QUESTION_TOKENS} can be asked: shorten it"
            )
        return ids

    def _untrusted(self, text: str) -> list[int]:
        with _ONE_THREAD:
            return self._tokenizer.encode(whole_text(text), add_special_tokens=False, split_special_tokens=True)
