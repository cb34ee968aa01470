"""What the model is trained on: to see, to route, to read, to find, to answer.

    see      a probe on the visual states names what a frame pair shows
    route    the relevance logit says whether a segment shows what is sought (Yes or No)
    read     a probe on the first memory token names what the segment answers
    find     a segment's feature and a question's are alike where the one shows what the other seeks
    answer   the LLM's next tokens, memory tokens cut at random lengths (the paper's front-loading)

The probes are for training only. Shapes as in ``batches.py``; B = V * N segments; rows (v, n, q).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nano.batches import LABELS, MOST_VIDEOS, NOTHING, Batch
from nano.model import NanoModel, PrefixBatch, SuffixBatch, patchify
from nano.optimize import Optimize, as_written
from nano.prompting import PackedPrompts, PromptTables, prompt_embeds
from nano.render import FRAME_EDGE, SceneBatch, render, sampled_moments
from nano.sizes import NANO
from nano.tables import PAIRS, Tables, aligned
from nano.world import COLOURS, MOST_SHOWN, MOTIONS, SEGMENT_FRAMES, THINGS

Tensor = torch.Tensor
WEIGHTS = {"see": 0.5, "route": 1.0, "read": 0.5, "find": 3.0, "answer": 1.0, "long": 1.0}
FEATURE_QUESTIONS = 4  # of a video, whose features are made
_NOTHING = LABELS.index(NOTHING)
NOISE = 0.02  # of the picture's range: a codec's


@dataclass(frozen=True)
class Reading:
    """``memory`` [V, Q, N, K, D]: final-normed memory tokens. ``losses``, ``figures`` by name."""

    memory: Tensor
    losses: dict[str, Tensor]
    figures: dict[str, Tensor]


class Probes(nn.Module):
    """Linear readings of hidden states, and the scale of the features' cosine."""

    def __init__(self) -> None:
        super().__init__()
        seen = {"thing": len(THINGS) + 1, "colour": len(COLOURS) + 1, "motion": len(MOTIONS) + 1}
        seen |= {"count": MOST_SHOWN + 1, "digit": 11}
        self.see = nn.ModuleDict({name: nn.Linear(NANO.hidden, size) for name, size in seen.items()})
        self.read = nn.ModuleList([nn.Linear(NANO.hidden, len(LABELS)) for _ in range(2)])
        self.scale, self.bias = nn.Parameter(torch.tensor(2.3)), nn.Parameter(torch.tensor(-5.0))


def noisy_patches(scenes: SceneBatch, noise: Tensor, level: Tensor) -> Tensor:
    """Rendered scenes as the vision tower takes them, with a codec's noise."""
    frames = render(scenes, sampled_moments(noise.device)) + noise * level
    return patchify(frames.clamp(0, 1))


class Losses(nn.Module):
    """The model with its probes and the tables of its prompts on a device; ``optimize`` is for the rendering."""

    def __init__(
        self, model: NanoModel, tables: Tables, device: torch.device | str, optimize: Optimize = as_written
    ) -> None:
        super().__init__()
        self._noisy_patches = optimize(noisy_patches)
        self.model, self.probes = model, Probes()
        self._prompts = PromptTables(tables, device)
        questions = tables.suffixes.ids.shape[1]
        self._tables = {
            "head": tables.head,
            "suffix_ids": torch.nn.functional.pad(
                torch.as_tensor(tables.suffixes.ids), (0, aligned(questions) - questions)
            ),
            "suffix_lengths": tables.suffixes.lengths,
            "summary_ids": tables.summaries.ids,
            "summary_lengths": tables.summaries.lengths,
            "segment_summary": tables.prompts.summary_suffix(),
            **vars(tables.prefixes),
        }
        self._tables = {name: torch.as_tensor(value).to(device) for name, value in self._tables.items()}
        self.to(device)

    def draw_patches(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """What the vision tower takes of a batch, [B, T, patches, 1536]."""
        device, count = batch.moments.device, batch.moments.numel()
        shape = (count, SEGMENT_FRAMES, FRAME_EDGE, FRAME_EDGE, 3)
        noise = torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)
        level = torch.rand(count, 1, 1, 1, 1, generator=generator, device=device) * NOISE
        patches: Tensor = self._noisy_patches(batch.scenes, noise, level)
        return patches

    def see(self, batch: Batch, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Visual states [B, L, S, D], and the loss of naming what the scenes show."""
        states = self.model.encode(patches)
        pooled = states[:, 0].unflatten(1, (PAIRS, -1)).mean(2).float()
        scenes, shows = batch.scenes, batch.scenes.thing >= 0
        truth = {"thing": scenes.thing + 1, "colour": scenes.colour + 1, "motion": scenes.motion + 1}
        truth = {name: value * shows for name, value in truth.items()}
        truth |= {"count": scenes.count, "digit": scenes.digit + 1}
        losses = [
            nn.functional.cross_entropy(probe(pooled).flatten(0, 1), truth[name].repeat_interleave(PAIRS))
            for name, probe in self.probes.see.items()
        ]
        return states, torch.stack(losses).mean()

    def prefill(self, batch: Batch, states: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor]:
        """Keys and values of the prefixes, their lengths and next positions [B]."""
        row, t = batch.moments.flatten(), self._tables
        prefix = PrefixBatch(t["ids"][row], t["is_visual"][row], t["positions"][:, row], t["visual_places"][row])
        return (
            self.model.prefill(states, prefix, self.model.head(t["head"])),
            t["lengths"][row],
            t["next_positions"][row],
        )

    def suffix(self, batch: Batch) -> SuffixBatch:
        """The questions behind every segment of their video, with all memory tokens; rows (v, n, q)."""
        rows = batch.texts[:, None, :].expand(-1, batch.moments.shape[1], -1).flatten()
        return self.model.suffix(self._tables["suffix_ids"][rows], self._tables["suffix_lengths"][rows])

    def read(self, batch: Batch, patches: Tensor) -> Reading:
        """Everything up to the memory tokens."""
        states, seeing = self.see(batch, patches)
        prefix, lengths, positions = self.prefill(batch, states)
        videos, questions, segments = batch.relevant.shape
        suffix = self.suffix(batch)
        hidden = self.model.read(prefix, lengths, positions, suffix)
        logits = suffix.last(hidden).float() @ self.model.relevance_direction
        wanted = batch.relevant.transpose(1, 2).flatten()
        memory = suffix.memory(hidden, NANO.memory_tokens)
        losses = {"see": seeing, "route": nn.functional.binary_cross_entropy_with_logits(logits, wanted.float())}
        losses["read"], read_right = self._reading(memory[:, 0].float(), batch)
        losses["find"] = self._finding(batch, prefix, lengths, positions)
        shaped = memory.view(videos, segments, questions, *memory.shape[1:]).transpose(1, 2)
        figures = {"auc": area_under_curve(logits, wanted), "read_right": read_right}
        return Reading(shaped, losses, figures)

    def _reading(self, first: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of naming what each segment answers, and the share of answering segments named right."""
        truth = batch.reads.transpose(1, 2).flatten(0, 2)
        said = [probe(first) for probe in self.probes.read]
        losses = [_balanced(logits, truth[:, i]) for i, logits in enumerate(said)]
        right = torch.stack([logits.argmax(-1) == truth[:, i] for i, logits in enumerate(said)]).all(0)
        relevant = batch.relevant.transpose(1, 2).flatten()
        return torch.stack(losses).sum(), (right & relevant).sum() / relevant.sum().clamp(min=1)

    def _finding(self, batch: Batch, prefix: list[tuple[Tensor, Tensor]], lengths: Tensor, positions: Tensor) -> Tensor:
        """Sigmoid loss over all pairs of a question and a segment of the batch."""
        t, model = self._tables, self.model
        words = model.text.embed_tokens(t["segment_summary"]).expand(len(lengths), -1, -1)
        suffix = SuffixBatch(words, torch.full_like(lengths, words.shape[1]))
        segments = suffix.last(model.read(prefix, lengths, positions, suffix))
        asked = batch.texts[:, :FEATURE_QUESTIONS].flatten()
        ids, ends = t["summary_ids"][asked], t["summary_lengths"][asked]
        places = torch.arange(ids.shape[1], device=ids.device).expand(3, len(ids), -1)
        hidden = model.run_layers(model.text, model.text.embed_tokens(ids), places, None, None)
        questions = hidden[torch.arange(len(ids), device=ids.device), ends - 1]
        cosine = (
            nn.functional.normalize(questions.float(), dim=-1) @ nn.functional.normalize(segments.float(), dim=-1).T
        )
        logits = cosine * self.probes.scale.exp() + self.probes.bias
        return nn.functional.binary_cross_entropy_with_logits(logits, _shows_sought(batch).float())

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
        hidden = self.model.answer(embeds)
        place = (packed.answer_starts[:, None] - 1 + torch.arange(answers.shape[1], device=answers.device)).clamp(
            max=hidden.shape[1] - 1
        )
        logits = llm.lm_head(hidden.gather(1, place[..., None].expand(-1, -1, hidden.shape[-1]))).float()
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=-100)
        right = ((logits.argmax(-1) == answers) | (answers < 0)).all(1)
        return loss, right


def area_under_curve(scores: Tensor, wanted: Tensor) -> Tensor:
    """The chance that a relevant segment scores above an irrelevant one (ties count by their order)."""
    ranks = scores.argsort().argsort().double() + 1
    positive, negative = wanted.sum().double(), (~wanted).sum().double()
    return ((ranks * wanted).sum() - positive * (positive + 1) / 2) / (positive * negative).clamp(min=1)


def _balanced(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy in which all that reads as nothing weighs half as much as all that reads as something.

    Nine of ten segments are nothing to a question; unweighted, they drown what there is to read.
    """
    each = nn.functional.cross_entropy(logits, truth, reduction="none")
    nothing = truth == _NOTHING
    means = [(each * part).sum() / part.sum().clamp(min=1) for part in (~nothing, nothing)]
    return means[0] + 0.5 * means[1]


def _shows_sought(batch: Batch) -> Tensor:
    """[V * FEATURE_QUESTIONS, V * N]: whether a segment shows what a question seeks."""
    sought, scenes = batch.sought[:, :FEATURE_QUESTIONS].flatten(0, 1), batch.scenes
    shows = torch.stack([scenes.thing, scenes.colour, scenes.motion], dim=-1)
    fits = (sought[:, None] == shows[None]) | (sought[:, None] < 0)
    found: Tensor = fits.all(-1) & (scenes.thing >= 0)[None]
    return found
