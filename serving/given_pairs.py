"""What a reader that sees frame pairs is given of routed segments. What a pair costs is counted by the router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.frame_pairs import Rule, share_pairs
from serving.reading import RoutedQuestion, Share
from serving.selection import SelectedSegment
from tempo_core.router import Router


@dataclass(frozen=True)
class GivenPairs:
    """A segment with some of its frame pairs, by their indices in it. ``tokens``: theirs, with their tags."""

    share: Share
    chosen: tuple[int, ...]
    tokens: int

    @property
    def segment(self) -> SelectedSegment:
        return self.share.segment


def give_pairs(routed: RoutedQuestion, router: Router, token_budget: int) -> tuple[list[GivenPairs], Rule]:
    """The segments that are given any, in order, and the rule."""
    segments, scores = routed.segments, routed.scores
    costs = [_pair_cost(router, one) for one in segments]
    shared = share_pairs(scores, [len(one.record.span.pair_times_s) for one in segments], costs, token_budget)
    given = [
        GivenPairs(Share(one, float(score), len(chosen) * _visual_tokens(one), len(chosen)), chosen, len(chosen) * cost)
        for one, score, chosen, cost in zip(segments, scores, shared.chosen, costs, strict=True)
        if chosen
    ]
    return given, shared.rule


def _pair_cost(router: Router, segment: SelectedSegment) -> int:
    """Tokens of one of its frame pairs: the last one's tag is the longest."""
    record = segment.record
    return router.pair_tokens(record.state.grid_thw, record.span.pair_times_s[-1])


def pairs_cost(router: Router, segments: Sequence[SelectedSegment]) -> tuple[int, int]:
    """Tokens of the dearest frame pair of segments, and of all of them."""
    costs = [_pair_cost(router, one) for one in segments]
    pairs = [len(one.record.span.pair_times_s) for one in segments]
    return max(costs), sum(cost * count for cost, count in zip(costs, pairs, strict=True))


def _visual_tokens(segment: SelectedSegment) -> int:
    """Of one of its frame pairs."""
    state = segment.record.state
    return state.tokens // state.grid_thw[0]
