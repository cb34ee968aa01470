"""How Tempo's LLM is given routed segments: memory tokens, of each segment as many as its relevance earns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from serving.answer import most_relevant
from serving.budget import BudgetFit, PromptRoom, fit_budget
from serving.reading import Prepared, RoutedQuestion, Share, own_reading
from serving.restorer import Restorer
from serving.selection import SelectedSegment, titles
from serving.stopwatch import Stopwatch
from serving.units import Units
from tempo_core.allocation import allocate
from tempo_core.answerer import Answerer
from tempo_core.tempo_checkpoint import TempoCheckpoint
from tempo_core.values import FloatArray


@dataclass(frozen=True)
class MemoryTokens:
    """allocate -> compress -> prompt."""

    checkpoint: TempoCheckpoint
    restorer: Restorer

    @property
    def reader(self) -> Answerer:
        return self.checkpoint.answerer

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

    def reading(self, routed: RoutedQuestion, fit: BudgetFit, watch: Stopwatch) -> Units[Prepared]:
        scores = routed.scores
        kept, tokens = self._allocate(scores, fit)
        memory = yield from self._compress(routed, tokens, watch)
        segments = [routed.segments[i] for i in kept]
        tags = [segment.record.tag_time_s for segment in segments]
        with watch.step("generate"):
            given = [memory[i] for i in kept]
            prompt = self.checkpoint.answerer.prompt(routed.question, tags, given, titles(segments))
        shares = [Share(segment, float(scores[i]), len(memory[i])) for segment, i in zip(segments, kept, strict=True)]
        return own_reading(routed, shares, "relevance", prompt)

    def _allocate(self, scores: FloatArray, fit: BudgetFit) -> tuple[list[int], npt.NDArray[np.int64]]:
        kept = most_relevant(scores, fit.segment_count)
        most = self.checkpoint.compressor.max_memory_tokens
        tokens = np.zeros(len(scores), dtype=np.int64)
        tokens[kept] = allocate(scores[kept], fit.token_budget, self.checkpoint.min_tokens, most)
        return kept, tokens

    def _compress(
        self, routed: RoutedQuestion, tokens: npt.NDArray[np.int64], watch: Stopwatch
    ) -> Units[dict[int, torch.Tensor]]:
        """Memory tokens by position, of the groups that were given any.

        Groups go backwards: what routing used last is still on the device.
        """
        order = [group for group, positions in enumerate(routed.groups) if tokens[positions].any()][::-1]
        restoring = self.restorer.restoring([[routed.segments[i] for i in routed.groups[group]] for group in order])
        memory: dict[int, torch.Tensor] = {}
        done = 0
        while done < len(order):
            slabs = yield from restoring.caches(done, watch)
            together = order[done : done + len(slabs)]
            reads = [routed.caches[group].on(slab) for group, slab in zip(together, slabs, strict=True)]
            with watch.step("compress"):
                found = self.checkpoint.compressor.compress_slabs(
                    reads, [tokens[routed.groups[group]] for group in together]
                )
            for group, of_slab in zip(together, found, strict=True):
                memory.update(zip(routed.groups[group], of_slab, strict=True))
            done += len(slabs)
            yield None
        return memory
