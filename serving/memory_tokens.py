"""How Tempo's LLM is given routed segments: memory tokens, of each segment as many as its relevance earns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from serving.answer import most_relevant
from serving.budget import BudgetFit, PromptRoom, fit_budget
from serving.reading import Reading, RoutedQuestion, Share, own_pieces
from serving.restorer import Restorer
from serving.selection import SelectedSegment, titles
from serving.stopwatch import Stopwatch
from tempo_core.allocation import allocate
from tempo_core.tempo_checkpoint import TempoCheckpoint
from tempo_core.values import FloatArray


@dataclass(frozen=True)
class MemoryTokens:
    """allocate -> compress -> prompt."""

    checkpoint: TempoCheckpoint
    restorer: Restorer

    def fit(
        self, question: str, segments: Sequence[SelectedSegment], token_budget: int | None, max_new_tokens: int
    ) -> BudgetFit:
        answerer = self.checkpoint.answerer
        introduced = sum(answerer.title_tokens(title) for title in titles(segments).values())
        room = PromptRoom(
            context=answerer.context_tokens,
            fixed=answerer.fixed_tokens(question) + introduced + max_new_tokens,
            tag=max(answerer.tag_tokens(segment.record.tag_time_s) for segment in segments),
            segment=self.checkpoint.compressor.max_memory_tokens,
            anchor=self.checkpoint.min_tokens,
        )
        return fit_budget(token_budget, len(segments), room)

    def reading(self, routed: RoutedQuestion, fit: BudgetFit, watch: Stopwatch) -> Reading:
        scores = routed.scores
        kept, tokens = self._allocate(scores, fit)
        memory = self._compress(routed, tokens, watch)
        segments = [routed.segments[i] for i in kept]
        tags = [segment.record.tag_time_s for segment in segments]
        with watch.step("generate"):
            given = [memory[i] for i in kept]
            prompt = self.checkpoint.answerer.prompt(routed.question, tags, given, titles(segments))
        shares = [Share(segment, float(scores[i]), len(memory[i])) for segment, i in zip(segments, kept, strict=True)]
        return Reading(partial(own_pieces, self.checkpoint.answerer, prompt), shares, "relevance")

    def _allocate(self, scores: FloatArray, fit: BudgetFit) -> tuple[list[int], npt.NDArray[np.int64]]:
        kept = most_relevant(scores, fit.segment_count)
        most = self.checkpoint.compressor.max_memory_tokens
        tokens = np.zeros(len(scores), dtype=np.int64)
        tokens[kept] = allocate(scores[kept], fit.token_budget, self.checkpoint.min_tokens, most)
        return kept, tokens

    def _compress(
        self, routed: RoutedQuestion, tokens: npt.NDArray[np.int64], watch: Stopwatch
    ) -> dict[int, torch.Tensor]:
        """Memory tokens by position, of the groups that were given any.

        Groups go backwards: what routing used last is still on the device.
        """
        order = [group for group, positions in enumerate(routed.groups) if tokens[positions].any()][::-1]
        members = [[routed.segments[i] for i in routed.groups[group]] for group in order]
        memory: dict[int, torch.Tensor] = {}
        for step, cache in self.restorer.caches(members, watch):
            positions, question = routed.groups[order[step]], routed.caches[order[step]]
            with watch.step("compress"):
                compressor = self.checkpoint.compressor
                tokens_of_group = compressor.compress(question.on(cache), routed.question, tokens[positions])
            memory.update(zip(positions, tokens_of_group, strict=True))
        return memory
