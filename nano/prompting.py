"""The LLM's prompts of a training batch, packed on the device: tag, memory tokens, tag, memory tokens, ... question.

Shapes: rows of a batch; W segments of a row; K memory tokens; A answer tokens; P places of the packed prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nano.tables import LONGEST_ANSWER, Tables, aligned

Tensor = torch.Tensor


@dataclass(frozen=True)
class PackedPrompts:
    """``ids`` [rows, P]; ``memory_places`` [rows, P]: 1 + the number of the memory token that stands there, else 0.

    ``answer_starts`` [rows]: where the answer's first token stands.
    """

    ids: Tensor
    memory_places: Tensor
    answer_starts: Tensor


class PromptTables:
    """The tables that prompts are made of, on a device."""

    def __init__(self, tables: Tables, device: torch.device | str) -> None:
        def moved(array: object) -> Tensor:
            return torch.as_tensor(array, device=device)

        self.head = moved(tables.prompts.answer_head())
        self.tags, self.tag_lengths = moved(tables.tags.ids), moved(tables.tags.lengths)
        self.titles, self.title_lengths = moved(tables.titles.ids), moved(tables.titles.lengths)
        self.tails, self.tail_lengths = moved(tables.tails.ids), moved(tables.tails.lengths)

    def width(self, segments: int, most: int, titles: int) -> int:
        """Places enough for any prompt of so many segments, memory tokens a segment and titles, with its answer."""
        own = segments * (self.tags.shape[1] + most) + titles * self.titles.shape[1]
        return aligned(len(self.head) + own + self.tails.shape[1] + LONGEST_ANSWER)

    def pack(
        self, texts: Tensor, moments: Tensor, titles: Tensor, counts: Tensor, answers: Tensor, most: int, width: int
    ) -> PackedPrompts:
        """``texts`` [rows]; ``moments``, ``titles``, ``counts`` [rows, W]; a count of -1 drops a segment, tag and all.

        ``answers`` [rows, A]. ``most``: K. ``width``: P; what does not fit is cut off, so it has to fit.
        """
        rows, segments = counts.shape
        present = counts >= 0
        lengths = torch.stack([self.title_lengths[titles], self.tag_lengths[moments], counts.clamp(min=0)], dim=-1)
        pieces = torch.cat([self.titles[titles], self.tags[moments], moments.new_zeros(rows, segments, most)], dim=-1)
        widths = (self.titles.shape[1], self.tags.shape[1], most)
        step = torch.cat([torch.arange(w, device=counts.device) for w in widths])
        part = torch.cat([torch.full((w,), i, device=counts.device) for i, w in enumerate(widths)])
        used = (step < lengths[..., part]) & present[..., None]
        numbers = torch.arange(segments * most, device=counts.device).view(segments, most) + 1
        memory = torch.nn.functional.pad(numbers, (pieces.shape[-1] - most, 0)).expand(rows, -1, -1)
        return self._joined(texts, (pieces.flatten(1), memory.flatten(1), used.flatten(1)), answers, width)

    def _joined(
        self, texts: Tensor, middle: tuple[Tensor, Tensor, Tensor], answers: Tensor, width: int
    ) -> PackedPrompts:
        rows = len(texts)
        pieces, memory, used = middle
        tail, tail_lengths = self.tails[texts], self.tail_lengths[texts]
        head = self.head.expand(rows, -1)
        ids = torch.cat([head, pieces, tail, answers.clamp(min=0)], dim=1)
        in_tail = torch.arange(tail.shape[1], device=ids.device) < tail_lengths[:, None]
        real = torch.cat([torch.ones_like(head, dtype=torch.bool), used, in_tail, answers >= 0], dim=1)
        before = torch.nn.functional.pad(memory, (head.shape[1], tail.shape[1] + LONGEST_ANSWER))
        packed_ids, places = squeezed(real, (ids, before), width)
        return PackedPrompts(packed_ids, places, answer_starts=real.sum(1) - (answers >= 0).sum(1))


def squeezed(real: Tensor, columns: tuple[Tensor, ...], width: int) -> list[Tensor]:
    """What is ``real`` [rows, any] of each of ``columns`` [rows, any], moved to the left of [rows, width]; then 0."""
    places = torch.where(real, real.cumsum(1) - 1, width).clamp(max=width)
    empty = places.new_zeros(len(real), width + 1)
    return [empty.scatter(1, places, column)[:, :width] for column in columns]


def prompt_embeds(embed: torch.nn.Embedding, packed: PackedPrompts, projected: Tensor) -> Tensor:
    """[rows, P, D] from projected memory tokens [rows, W, K, D]."""
    rows = len(projected)
    flat = projected.reshape(rows, -1, projected.shape[-1])
    place = (packed.memory_places - 1).clamp(min=0)[..., None].expand(-1, -1, flat.shape[-1])
    words = embed(packed.ids).to(flat.dtype)
    return torch.where((packed.memory_places > 0)[..., None], flat.gather(1, place), words)


def draw_counts(needed: Tensor, relevant: Tensor, most: int, generator: torch.Generator, drop: float) -> Tensor:
    """Memory tokens a segment [rows, W], drawn as a budget might give them; -1 where a segment is left out.

    ``needed`` [rows, W] segments are never left out. Four ways by turns: all, a number for the whole row, more for
    what is ``relevant`` [rows, W] (not for what comes after it, which no score can tell), any number for each.
    ``drop``: the share of rows that leave segments out.
    """
    rows, segments = needed.shape
    device = needed.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return low + (uniform(*shape) * (high - low + 1)).long()

    row = whole(1, most, rows, 1)
    ata = torch.where(relevant, whole(1, most, rows, segments), whole(1, 4, rows, 1))
    ways = torch.stack([torch.full_like(ata, most), row.expand_as(ata), ata, whole(1, most, rows, segments)])
    way = whole(0, 3, rows)
    counts = ways[way, torch.arange(rows, device=device)]
    share = uniform(rows, 1) * (uniform(rows, 1) < drop)
    left_out = (uniform(rows, segments) < share) & ~needed
    return counts.masked_fill(left_out, -1)
