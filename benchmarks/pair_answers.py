"""The prompts of one question under many choices of frame pairs, and the ways to choose.

The prompt is the reader's own: the one with every frame pair is built, each variant takes rows of it and places them
anew. Shapes: S segments, T frame pairs of one, N tokens of the whole prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.policies import top_whole
from serving.frame_pairs import by_relevance, evenly, share_pairs, spread
from tempo_core.greedy import Prompt
from tempo_core.stock_checkpoint import StockCheckpoint
from tempo_core.values import FloatArray, SegmentState

POLICIES = ("rule", "ata", "feature", "topk", "even", "random")
SHARES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the tokens that all frame pairs take
Chosen = tuple[tuple[int, ...], ...]  # of each segment the indices of its frame pairs
Random = np.random.Generator


@dataclass(frozen=True)
class WholeVideo:
    """A question's prompt with all frame pairs. ``pair`` [N]: whose token a row is, counted over the video; -1: text.

    ``costs``: of each segment the most tokens that one of its frame pairs takes.
    """

    prompt: Prompt
    pair: torch.Tensor
    counts: tuple[int, ...]
    costs: tuple[int, ...]

    def cut(self, chosen: Chosen) -> Prompt:
        """The prompt with only the ``chosen`` frame pairs, as the reader builds it of their states."""
        whole, device = self.prompt, self.pair.device
        assert whole.positions is not None and whole.deepstack is not None and whole.next_position is not None
        starts = np.cumsum([0, *self.counts])
        kept = torch.zeros(int(starts[-1]) + 1, dtype=torch.bool, device=device)
        kept[[int(start) + i for start, pairs in zip(starts, chosen, strict=False) for i in pairs]] = True
        kept[-1] = True  # text
        rows = kept[self.pair]
        begins = whole.positions[0]
        steps = torch.diff(begins, append=begins.new_tensor([whole.next_position]))[rows]
        moved = steps.cumsum(0) - steps - begins[rows]
        where, levels = whole.deepstack
        visible = rows[where]
        place = rows.cumsum(0) - 1
        return Prompt(
            whole.embeds[rows],
            tag_tokens=0,
            positions=whole.positions[:, rows] + moved,
            next_position=int(steps.sum()),
            deepstack=(place[where[visible]], levels[:, visible]),
        )


def whole_video(checkpoint: StockCheckpoint, question: str, states: Sequence[SegmentState]) -> WholeVideo:
    """The prompt of ``question`` with all frame pairs of ``states``."""
    router, reader = checkpoint.router, checkpoint.reader
    prompt = reader.prompt(question, states)
    costs = [[router.pair_tokens(state.grid_thw, time_s) for time_s in state.pair_times_s] for state in states]
    of_pairs = np.array([cost for of_segment in costs for cost in of_segment])
    head = len(reader._prompts._trusted(reader._prompts._chat(None)[0]))
    pair = np.full(len(prompt), -1)
    pair[head : head + int(of_pairs.sum())] = np.repeat(np.arange(len(of_pairs)), of_pairs)
    counts = tuple(len(state.pair_times_s) for state in states)
    most = tuple(max(of_segment) for of_segment in costs)
    return WholeVideo(prompt, torch.from_numpy(pair).to(reader.device), counts, most)


def every_setting(whole: WholeVideo, scores: FloatArray, likeness: FloatArray, rng: Random) -> dict[str, Chosen]:
    """Name of a setting (``policy/share``) to the frame pairs it gives. ``likeness``: of features to the question's."""
    most = sum(count * cost for count, cost in zip(whole.counts, whole.costs, strict=True))
    settings: dict[str, Chosen] = {}
    for share in SHARES:
        budget = max(round(share * most), *whole.costs)
        units = budget // max(whole.costs)
        rule = share_pairs(scores, whole.counts, whole.costs, budget).chosen
        everything = share == 1
        ways: dict[str, Chosen] = {
            "rule": rule,
            "ata": _given(whole, by_relevance(scores, whole.counts, units)),
            "feature": _given(whole, by_relevance(likeness, whole.counts, units)),
            "topk": _given(whole, top_whole(scores, units, max(whole.counts)).tolist()),
            "even": spread(whole.counts, units),
            "random": _at_random(whole.counts, units, rng),
        }
        settings |= {f"{name}/{share:g}": rule if everything else ways[name] for name in POLICIES}
    return settings


def _given(whole: WholeVideo, counts: Sequence[int]) -> Chosen:
    return tuple(evenly(have, count) if count else () for have, count in zip(whole.counts, counts, strict=True))


def _at_random(counts: Sequence[int], units: int, rng: Random) -> Chosen:
    starts = np.cumsum([0, *counts])
    drawn: set[int] = set(rng.choice(int(starts[-1]), min(units, int(starts[-1])), replace=False).tolist())
    return tuple(
        tuple(i for i in range(count) if int(start) + i in drawn)
        for start, count in zip(starts[:-1], counts, strict=True)
    )


def likeness_of(question: FloatArray, segments: FloatArray) -> FloatArray:
    """Cosines of unit features (D,) and (S, D)."""
    cosines: npt.NDArray[np.float32] = segments @ question
    return cosines
