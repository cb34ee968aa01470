"""The stock model's prompts of a training batch, packed on the device: tag, frame pair, ... question.

Shapes: rows of a batch; W segments of a row; T frame pairs of a segment; A answer tokens; P places of a packed prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nano.model import GRID
from nano.prompting import squeezed
from nano.tables import LONGEST_ANSWER, ONE_PAIR, PAIRS, SHORT, Tables, aligned, moments, pair_times, table
from tempo_core.pixels import MERGE

Tensor = torch.Tensor
SIDE = GRID // MERGE  # visual tokens along an edge
PAIR_TOKENS = SIDE * SIDE


@dataclass(frozen=True)
class PackedPairs:
    """``ids`` [rows, P], ``positions`` [3, rows, P]; ``visual`` [rows, P]: 1 + the number of the visual token that
    stands there among those of the row's ``sources``, else 0. ``answer_starts`` [rows]: where the answer stands.
    """

    ids: Tensor
    positions: Tensor
    visual: Tensor
    answer_starts: Tensor


class PairTables:
    """The tables that prompts of frame pairs are made of, on a device.

    A block is a tag, padded, with its frame pair behind it; ``steps`` and ``sides`` [2]: by how much each token moves
    the position on, and where in its frame pair a visual token stands (rows, columns).
    """

    def __init__(self, tables: Tables, device: torch.device | str) -> None:
        def moved(array: object) -> Tensor:
            return torch.as_tensor(array, device=device)

        prompts, first = tables.prompts, pair_times(SHORT, 0)[0]
        head = tables.before_tag(prompts.read_pairs("", [(ONE_PAIR, (first,))], MERGE).ids, first)
        begin = len(head) + len(prompts.tag(first))
        pair = prompts.read_pairs("", [(ONE_PAIR, (first,))], MERGE).ids[begin : begin + PAIR_TOKENS + 2]
        tags = table([prompts.tag(time_s) for at in moments() for time_s in pair_times(*at)])
        tails = table([prompts.read_pairs(text, [], MERGE).ids[len(head) :].tolist() for text in tables.texts])
        width = tags.ids.shape[1]
        self.head, self.tails, self.tail_lengths = moved(head), moved(tails.ids), moved(tails.lengths)
        self.blocks = moved(np.hstack([tags.ids, np.tile(pair, (len(tags.ids), 1))]))
        self.tag_lengths, self.tag_width = moved(tags.lengths), width
        number = np.arange(PAIR_TOKENS)
        self.visual = moved(np.concatenate([np.zeros(width + 1, np.int64), number + 1, [0]]))
        steps = np.concatenate([np.ones(width + 1, np.int64), np.where(number == PAIR_TOKENS - 1, SIDE, 0), [1]])
        sides = np.pad(np.stack(np.divmod(number, SIDE)), ((0, 0), (width + 1, 1)))
        self.steps, self.sides = moved(steps), moved(sides)

    def width(self, segments: int) -> int:
        """Places enough for any prompt of so many segments, with its answer."""
        own = segments * PAIRS * self.blocks.shape[1]
        return aligned(len(self.head) + own + self.tails.shape[1] + LONGEST_ANSWER)

    def pack(self, texts: Tensor, sources: Tensor, places: Tensor, kept: Tensor, answers: Tensor) -> PackedPairs:
        """``texts`` [rows]; ``sources``, ``places`` [rows, W]: whose states and at which moment; ``kept`` [rows, W, T];
        ``answers`` [rows, A].
        """
        rows, segments = sources.shape
        block = (places[..., None] * PAIRS + torch.arange(PAIRS, device=places.device)).flatten(1)
        step = torch.arange(self.blocks.shape[1], device=places.device)
        used = (step >= self.tag_width) | (step < self.tag_lengths[block][..., None])
        first = (sources[..., None] * PAIRS + torch.arange(PAIRS, device=places.device)).flatten(1) * PAIR_TOKENS
        visual = torch.where(self.visual > 0, first[..., None] + self.visual, 0)
        head = self.head.expand(rows, -1)
        tail = self.tails[texts]
        in_tail = torch.arange(tail.shape[1], device=texts.device) < self.tail_lengths[texts][:, None]
        real = torch.cat(
            [torch.ones_like(head).bool(), (used & kept.flatten(1)[..., None]).flatten(1), in_tail, answers >= 0], dim=1
        )

        def whole(blocks: Tensor, outside: int) -> Tensor:
            pad = (head.shape[1], tail.shape[1] + answers.shape[1])
            middle = blocks.expand(rows, block.shape[1], -1).flatten(1)
            return torch.nn.functional.pad(middle, pad, value=outside)

        ids = torch.cat([head, self.blocks[block].flatten(1), tail, answers.clamp(min=0)], dim=1)
        columns = (ids, whole(visual, 0), whole(self.steps, 1), *(whole(side, 0) for side in self.sides))
        packed, where, steps, *sides = squeezed(real, columns, self.width(segments))
        begin = steps.cumsum(1) - steps
        positions = torch.stack([begin, *(begin + side for side in sides)])
        return PackedPairs(packed, positions, where, real.sum(1) - (answers >= 0).sum(1))
