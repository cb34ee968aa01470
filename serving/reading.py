"""What routing hands to a reader, and what a reader makes of it: the one step in which families of models differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from serving.budget import BudgetFit
from serving.selection import SelectedSegment
from serving.stopwatch import Stopwatch
from tempo_core.greedy import Prompt
from tempo_core.prefix_cache import QuestionCache
from tempo_core.reader import Reader
from tempo_core.values import FloatArray


@dataclass(frozen=True)
class RoutedQuestion:
    """A question read over segments. ``groups``: positions that share a slab; ``caches``: the question's, one each."""

    question: str
    segments: list[SelectedSegment]
    groups: list[list[int]]
    caches: list[QuestionCache]

    @cached_property
    def scores(self) -> FloatArray:
        """Relevance of each segment, (segments,)."""
        scores = np.zeros(len(self.segments), dtype=np.float32)
        for positions, cache in zip(self.groups, self.caches, strict=True):
            scores[positions] = cache.scores
        return scores


@dataclass(frozen=True)
class Share:
    """What one segment was given: its relevance, visual tokens, and of how many frame pairs (None: memory tokens)."""

    segment: SelectedSegment
    relevance: float
    tokens: int
    pairs: int | None = None


@dataclass(frozen=True)
class TokenCounts:
    """What an answer took: time tags and titles, the whole prompt with them, what was generated."""

    tag_tokens: int
    prompt_tokens: int
    completion_tokens: int


Pieces = Iterator[str | TokenCounts]  # of text as they are generated, at last what they took


@dataclass(frozen=True)
class Reading:
    """What a reader will read. ``pieces``: its answer, of at most so many tokens; ``shares``: the segments in it, in
    order; ``rule``: by which the budget was shared."""

    pieces: Callable[[int], Pieces]
    shares: Sequence[Share]
    rule: str

    @property
    def visual_tokens(self) -> int:
        return sum(share.tokens for share in self.shares)


class ReadingMaker(Protocol):
    """Shares the token budget among routed segments, and builds the prompt from what each was given."""

    def fit(
        self, question: str, segments: Sequence[SelectedSegment], token_budget: int | None, max_new_tokens: int
    ) -> BudgetFit:
        """What fits, before anything is read. BudgetError for a budget that does not."""

    def reading(self, routed: RoutedQuestion, fit: BudgetFit, watch: Stopwatch) -> Reading:
        """What the reader will read."""


def own_pieces(reader: Reader, prompt: Prompt, max_new_tokens: int) -> Pieces:
    """The answer of a reader in this process."""
    token_ids: list[int] = []
    yield from reader.text_pieces(_recording(reader.token_ids(prompt, max_new_tokens), token_ids))
    yield TokenCounts(prompt.tag_tokens, len(prompt), len(token_ids))


def _recording(token_ids: Iterator[int], seen: list[int]) -> Iterator[int]:
    """The same ids, each appended to ``seen``."""
    for token_id in token_ids:
        seen.append(token_id)
        yield token_id
