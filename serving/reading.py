"""What routing hands to a reader, and what a reader makes of it: the one step in which families of models differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from serving.answer import AskedSegment
from serving.budget import BudgetFit
from serving.selection import SelectedSegment
from serving.stopwatch import Stopwatch
from serving.units import Units
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
    """What is read for an answer. ``shares``: the segments in it, in order; ``rule``: by which the budget was shared.

    ``scores``: of all that was routed. ``own``: as this process counts it. ``served``: the answer of a server, of at
    most so many tokens; None: the model's own reader answers.
    """

    scores: FloatArray
    shares: Sequence[Share]
    rule: str
    own: TokenCounts
    served: Callable[[int], Pieces] | None = None

    @property
    def visual_tokens(self) -> int:
        return sum(share.tokens for share in self.shares)

    @property
    def segments(self) -> tuple[AskedSegment, ...]:
        """As an answer tells them."""
        return tuple(
            AskedSegment(
                video_id=share.segment.video.video_id,
                uri=share.segment.video.uri,
                index=share.segment.record.index,
                start_s=share.segment.player_start_s,
                end_s=share.segment.player_end_s,
                relevance=share.relevance,
                tokens=share.tokens,
                pairs=share.pairs,
            )
            for share in self.shares
        )


Prepared = tuple[Reading, Prompt | None]  # with the prompt of the model's own reader, where it answers


class ReadingMaker(Protocol):
    """Shares the token budget among routed segments, and builds the prompt from what each was given."""

    @property
    def reader(self) -> Reader | None:
        """Who answers in this process; None: a server does."""

    def fit(
        self, question: str, segments: Sequence[SelectedSegment], token_budget: int | None, max_new_tokens: int
    ) -> BudgetFit:
        """What fits, before anything is read. BudgetError for a budget that does not."""

    def reading(self, routed: RoutedQuestion, fit: BudgetFit, watch: Stopwatch) -> Units[Prepared]:
        """What will be read."""


def own_reading(routed: RoutedQuestion, shares: Sequence[Share], rule: str, prompt: Prompt) -> Prepared:
    """Of a prompt that the model's own reader answers."""
    return Reading(routed.scores, shares, rule, TokenCounts(prompt.tag_tokens, len(prompt), 0)), prompt


def own_pieces(reader: Reader, own: TokenCounts, token_ids: Iterable[int]) -> Pieces:
    """The answer of a reader in this process, whose token ids come one by one."""
    seen: list[int] = []
    yield from reader.text_pieces(_recording(token_ids, seen))
    yield replace(own, completion_tokens=len(seen))


def timed(pieces: Pieces, watch: Stopwatch) -> Pieces:
    """The same, and the watch knows how long each was waited for."""
    while True:
        begin = time.perf_counter()
        piece = next(pieces, None)
        watch.add("generate", time.perf_counter() - begin)
        if piece is None:
            return
        yield piece


def _recording(token_ids: Iterable[int], seen: list[int]) -> Iterator[int]:
    """The same ids, each appended to ``seen``."""
    for token_id in token_ids:
        seen.append(token_id)
        yield token_id
