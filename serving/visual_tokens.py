"""How a stock vision-language model is given routed segments: their own visual tokens, in whole frame pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.budget import BudgetFit, fit_visual_budget
from serving.given_pairs import give_pairs, pairs_cost
from serving.reading import Prepared, RoutedQuestion, own_reading
from serving.segment_states import SegmentStates
from serving.selection import SelectedSegment, titles
from serving.stopwatch import Stopwatch
from serving.units import Disk, Units
from tempo_core.state_reader import StateReader
from tempo_core.stock_checkpoint import StockCheckpoint


@dataclass(frozen=True)
class VisualTokens:
    """share frame pairs -> read their states -> prompt."""

    checkpoint: StockCheckpoint
    states: SegmentStates
    disk: Disk

    @property
    def reader(self) -> StateReader:
        return self.checkpoint.reader

    def fit(
        self, question: str, segments: Sequence[SelectedSegment], token_budget: int | None, max_new_tokens: int
    ) -> BudgetFit:
        reader = self.checkpoint.reader
        introduced = sum(reader.title_tokens(title) for title in titles(segments).values())
        fixed = reader.fixed_tokens(question) + introduced + max_new_tokens
        pair, useful = pairs_cost(self.checkpoint.router, segments)
        return fit_visual_budget(token_budget, len(segments), pair, useful, reader.context_tokens - fixed)

    def reading(self, routed: RoutedQuestion, fit: BudgetFit, watch: Stopwatch) -> Units[Prepared]:
        given, rule = give_pairs(routed, self.checkpoint.router, fit.token_budget)
        segments = [one.segment for one in given]
        kept = yield from self.disk.load(lambda: self.states.load(segments), watch)
        with watch.step("restore"):
            whole = self.states.computed(segments, kept)
        yield None
        states = [state.pairs(one.chosen) for state, one in zip(whole, given, strict=True)]
        with watch.step("generate"):
            introduced = titles(segments)
            prompt = self.checkpoint.reader.prompt(routed.question, states, introduced)
        return own_reading(routed, [one.share for one in given], rule, prompt)
