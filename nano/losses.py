"""What tempo-nano is trained on beside its segments: to answer from their memory tokens.

    answer   the LLM's next tokens, memory tokens cut at random lengths (the paper's front-loading)
    long     the same over long prompts

Shapes as in ``batches.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nano.batches import MOST_VIDEOS, Batch
from nano.model import NanoModel
from nano.optimize import Optimize, as_written
from nano.prompting import PackedPrompts, PromptTables, draw_counts, prompt_embeds
from nano.schedule import Kind
from nano.segment_losses import Named, SegmentLosses, answer_loss, before_answers
from nano.sizes import NANO
from nano.tables import Tables

Tensor = torch.Tensor


@dataclass(frozen=True)
class Reading:
    """``memory`` [V, Q, N, K, D]: final-normed memory tokens. ``losses``, ``figures`` by name."""

    memory: Tensor
    losses: Named
    figures: Named


class Losses(SegmentLosses):
    """The model with its probes and the tables of its prompts on a device; ``optimize`` is for the rendering."""

    model: NanoModel

    def __init__(
        self, model: NanoModel, tables: Tables, device: torch.device | str, optimize: Optimize = as_written
    ) -> None:
        super().__init__(model, tables, device, optimize)
        self._prompts = PromptTables(tables, device)
        self.to(device)

    def drawn(self, kind: Kind, batch: Batch, drop: float, generator: torch.Generator) -> tuple[Tensor, ...]:
        """What a step takes beside the batch: patches, and memory tokens a segment; ``drop`` as ``draw_counts``."""
        marks = (batch.long_needed, batch.long_relevant) if kind == "long" else (batch.needed, batch.relevant)
        needed, relevant = (mark.flatten(0, 1) for mark in marks)
        counts = draw_counts(needed, relevant, NANO.memory_tokens, generator, drop)
        return self.draw_patches(batch, generator), counts

    def step(self, kind: Kind, batch: Batch, patches: Tensor, counts: Tensor) -> tuple[Named, Named]:
        """Losses and figures of one step."""
        if kind == "long":
            with torch.no_grad():
                memory = self.read(batch, patches).memory
            loss, right = self.long(batch, memory, counts)
            return {"long": loss}, {"long_right": right.float().mean()}
        reading = self.read(batch, patches)
        if kind == "read":
            return reading.losses, reading.figures
        loss, right = self.answer(batch, reading.memory, counts)
        return {**reading.losses, "answer": loss}, {**reading.figures, "right": right.float().mean()}

    def read(self, batch: Batch, patches: Tensor) -> Reading:
        """Everything up to the memory tokens."""
        segments = self.read_segments(batch, patches)
        videos, questions, count = batch.relevant.shape
        memory = segments.suffix.memory(segments.hidden, NANO.memory_tokens)
        loss, right = self.named(memory[:, 0].float(), batch)
        shaped = memory.view(videos, count, questions, *memory.shape[1:]).transpose(1, 2)
        return Reading(shaped, {**segments.losses, "read": loss}, {**segments.figures, "read_right": right})

    def answer(self, batch: Batch, memory: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The answers' loss over prompts of the batch's own segments, and which are said right [V * Q].

        ``counts`` [V * Q, N] as ``draw_counts`` draws them.
        """
        _, questions, segments = batch.relevant.shape
        titles = batch.titles[:, None].expand(-1, questions, -1).flatten(0, 1)
        moments = batch.moments[:, None].expand(-1, questions, -1).flatten(0, 1)
        counts = torch.where((titles > 0) & (counts < 0), 1, counts)  # a title stays with its first segment
        width = self._prompts.width(segments, NANO.memory_tokens, MOST_VIDEOS)
        packed = self._prompts.pack(
            batch.texts.flatten(),
            moments,
            titles,
            counts,
            batch.answers.flatten(0, 1),
            NANO.memory_tokens,
            width,
        )
        return self._said(packed, memory.flatten(0, 1), batch.answers.flatten(0, 1))

    def long(self, batch: Batch, memory: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The same over long prompts, made of the same memory tokens again and again; ``counts`` [V * Q, W]."""
        sources = batch.long_sources.flatten(0, 1)
        chosen = memory.flatten(0, 1)
        place = sources[..., None, None].expand(-1, -1, *chosen.shape[2:])
        width = self._prompts.width(counts.shape[1], NANO.memory_tokens, titles=0)
        packed = self._prompts.pack(
            batch.texts.flatten(),
            batch.long_moments.flatten(0, 1),
            torch.zeros_like(counts),
            counts,
            batch.long_answers.flatten(0, 1),
            NANO.memory_tokens,
            width,
        )
        return self._said(packed, chosen.gather(1, place), batch.long_answers.flatten(0, 1))

    def _said(self, packed: PackedPrompts, memory: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        llm = self.model.llm
        embeds = prompt_embeds(llm.model.embed_tokens, packed, self.model.projector(memory))
        hidden = before_answers(self.model.answer(embeds), packed.answer_starts, answers.shape[1])
        return answer_loss(llm.lm_head(hidden).float(), answers)
