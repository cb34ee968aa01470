"""How a stock vision-language model is given routed segments: their own visual tokens, in whole frame pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from serving.budget import BudgetFit, fit_visual_budget
from serving.frame_pairs import share_pairs
from serving.reading import Reading, RoutedQuestion, Share
from serving.selection import SelectedSegment, titles
from serving.stopwatch import Stopwatch
from storage import Library
from tempo_core.stock_checkpoint import StockCheckpoint
from tempo_core.values import SegmentState


@dataclass(frozen=True)
class VisualTokens:
    """share frame pairs -> read their states -> prompt."""

    checkpoint: StockCheckpoint
    library: Library

    def fit(
        self, question: str, segments: Sequence[SelectedSegment], token_budget: int | None, max_new_tokens: int
    ) -> BudgetFit:
        reader = self.checkpoint.reader
        introduced = sum(reader.title_tokens(title) for title in titles(segments).values())
        fixed = reader.fixed_tokens(question) + introduced + max_new_tokens
        useful = sum(self._cost(one) * len(one.record.span.pair_times_s) for one in segments)
        return fit_visual_budget(token_budget, len(segments), useful, reader.context_tokens - fixed)

    def reading(self, routed: RoutedQuestion, fit: BudgetFit, watch: Stopwatch) -> Reading:
        scores = routed.scores
        pairs = [len(one.record.span.pair_times_s) for one in routed.segments]
        shared = share_pairs(scores, pairs, [self._cost(one) for one in routed.segments], fit.token_budget)
        given = [(one, i) for i, one in enumerate(routed.segments) if shared.chosen[i]]
        segments = [one for one, _ in given]
        with watch.step("load"):
            whole = self._states(segments)
        with watch.step("generate"):
            states = [state.pairs(shared.chosen[i]) for state, (_, i) in zip(whole, given, strict=True)]
            prompt = self.checkpoint.reader.prompt(routed.question, states, titles(segments))
        shares = [
            Share(one, float(scores[i]), state.rows.shape[1], len(shared.chosen[i]))
            for state, (one, i) in zip(states, given, strict=True)
        ]
        return Reading(prompt, shares, shared.rule)

    def _cost(self, segment: SelectedSegment) -> int:
        """Tokens of one of its frame pairs: the last one's tag is the longest."""
        record = segment.record
        return self.checkpoint.reader.pair_tokens(record.state.grid_thw, record.span.pair_times_s[-1])

    def _states(self, segments: Sequence[SelectedSegment]) -> list[SegmentState]:
        """Whole states, in order; each video's are read at once."""
        states: list[SegmentState] = []
        for _, group in groupby(segments, key=lambda one: one.key.generation):
            of_video = list(group)
            records = [one.record for one in of_video]
            states += self.library.read_states(of_video[0].video, segments=records)
        return states
