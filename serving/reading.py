"""What routing hands to a reader, and what a reader makes of it: the one step in which families of models differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from serving.budget import BudgetFit
from serving.selection import SelectedSegment
from serving.stopwatch import Stopwatch
from tempo_core.greedy import Prompt
from tempo_core.prefix_cache import QuestionCache
from tempo_core.values import FloatArray


@dataclass(frozen=True)
class RoutedQuestion:
    """A question read over segments. ``groups``: positions that share a slab; ``caches``: the question's, one each."""

    question: str
    segments: list[SelectedSegment]
    groups: list[list[int]]
    caches: list[QuestionCache]

    @property
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
class Reading:
    """What the LLM will read. ``shares``: the segments in it, in order; ``rule``: by which the budget was shared."""

    prompt: Prompt
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
        """What the LLM will read."""
