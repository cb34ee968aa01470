"""What nano-vl is trained on beside its segments: to answer from the visual tokens of frame pairs, few or all of them.

Its own text model reads them, which also routes. Shapes as in ``stock_batches.py``.
"""

from __future__ import annotations

import torch

from nano.model import Svlm
from nano.optimize import Optimize, as_written
from nano.pair_prompts import PAIR_TOKENS, PackedPairs, PairTables
from nano.schedule import Kind
from nano.segment_losses import Named, SegmentLosses, answer_loss, before_answers
from nano.stock_batches import StockBatch
from nano.tables import PAIRS, Tables

Tensor = torch.Tensor


class StockLosses(SegmentLosses):
    """The model with its probes and the tables of its prompts on a device; ``optimize`` is for the rendering."""

    def __init__(
        self, model: Svlm, tables: Tables, device: torch.device | str, optimize: Optimize = as_written
    ) -> None:
        super().__init__(model, tables, device, optimize)
        self._pairs = PairTables(tables, device)
        self.to(device)

    def drawn(self, kind: Kind, batch: StockBatch, drop: float, generator: torch.Generator) -> tuple[Tensor, ...]:
        """What a step takes beside the batch: patches. What is left out of a prompt was drawn with it."""
        del kind, drop
        return (self.draw_patches(batch, generator),)

    def step(self, kind: Kind, batch: StockBatch, patches: Tensor) -> tuple[Named, Named]:
        """Losses and figures of one step."""
        if kind == "long":
            with torch.no_grad():
                states = self.model.encode(patches)
            loss, right = self.answer(batch, states)
            return {"long": loss}, {"long_right": right.float().mean()}
        segments = self.read_segments(batch, patches)
        losses, figures = segments.losses, segments.figures
        losses["read"], figures["read_right"] = self.named(segments.suffix.last(segments.hidden).float(), batch)
        if kind == "read":
            return losses, figures
        losses["answer"], right = self.answer(batch, segments.states)
        return losses, {**figures, "right": right.float().mean()}

    def answer(self, batch: StockBatch, states: Tensor) -> tuple[Tensor, Tensor]:
        """The answers' loss over the batch's prompts, and which are said right [V * Q]; ``states`` [B, L, S, D]."""
        answers = batch.answers.flatten(0, 1)
        packed = self.pack(batch)
        hidden = self.model.read_pairs(packed.ids, packed.positions, packed.visual, self._of_rows(batch, states))
        before = before_answers(hidden, packed.answer_starts, answers.shape[1])
        return answer_loss((before @ self.model.head_rows.to(before.dtype).T).float(), answers)

    def pack(self, batch: StockBatch) -> PackedPairs:
        """All prompts of a batch; rows (v, q)."""
        flat = (batch.asked, batch.sources, batch.places, batch.kept, batch.answers)
        return self._pairs.pack(*(one.flatten(0, 1) for one in flat))

    def _of_rows(self, batch: StockBatch, states: Tensor) -> Tensor:
        """[V * Q, L, N * S, D]: the states of each prompt's video."""
        videos, questions = batch.asked.shape
        tokens = batch.moments.shape[1] * PAIRS * PAIR_TOKENS
        of_video = (
            states.view(videos, -1, *states.shape[1:]).transpose(1, 2).reshape(videos, states.shape[1], tokens, -1)
        )
        return of_video.repeat_interleave(questions, 0)
