"""What all models of this world are trained on: to see, to route, to read, to find.

    see      a probe on the visual states names what a frame pair shows
    route    the relevance logit says whether a segment shows what is sought (Yes or No)
    read     a probe on a state behind the question names what the segment answers
    find     a segment's feature and a question's are alike where the one shows what the other seeks

The probes are for training only. Shapes as in ``segment_batches.py``; B = V * N segments; rows (v, n, q).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nano.model import PrefixBatch, SuffixBatch, Svlm, patchify
from nano.optimize import Optimize, as_written
from nano.render import FRAME_EDGE, SceneBatch, render, sampled_moments
from nano.segment_batches import LABELS, NOTHING, SegmentBatch
from nano.sizes import NANO
from nano.tables import PAIRS, Tables, aligned
from nano.world import COLOURS, MOST_SHOWN, MOTIONS, SEGMENT_FRAMES, THINGS

Tensor = torch.Tensor
Named = dict[str, Tensor]
FEATURE_QUESTIONS = 4  # of a video, whose features are made
_NOTHING = LABELS.index(NOTHING)
NOISE = 0.02  # of the picture's range: a codec's


@dataclass(frozen=True)
class SegmentsRead:
    """``states`` [B, L, S, D]; the questions' ``suffix`` behind every segment and its final-normed states ``hidden``.

    ``losses``, ``figures`` by name.
    """

    states: Tensor
    suffix: SuffixBatch
    hidden: Tensor
    losses: Named
    figures: Named


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


class SegmentLosses(nn.Module):
    """A model with its probes and the tables of its prompts on a device; ``optimize`` is for the rendering."""

    def __init__(
        self, model: Svlm, tables: Tables, device: torch.device | str, optimize: Optimize = as_written
    ) -> None:
        super().__init__()
        self._noisy_patches = optimize(noisy_patches)
        self.model, self.probes = model, Probes()
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

    def draw_patches(self, batch: SegmentBatch, generator: torch.Generator) -> Tensor:
        """What the vision tower takes of a batch, [B, T, patches, 1536]."""
        device, count = batch.moments.device, batch.moments.numel()
        shape = (count, SEGMENT_FRAMES, FRAME_EDGE, FRAME_EDGE, 3)
        noise = torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)
        level = torch.rand(count, 1, 1, 1, 1, generator=generator, device=device) * NOISE
        patches: Tensor = self._noisy_patches(batch.scenes, noise, level)
        return patches

    def see(self, batch: SegmentBatch, patches: Tensor) -> tuple[Tensor, Tensor]:
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

    def prefill(self, batch: SegmentBatch, states: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor]:
        """Keys and values of the prefixes, their lengths and next positions [B]."""
        row, t = batch.moments.flatten(), self._tables
        prefix = PrefixBatch(t["ids"][row], t["is_visual"][row], t["positions"][:, row], t["visual_places"][row])
        return (
            self.model.prefill(states, prefix, self.model.head(t["head"])),
            t["lengths"][row],
            t["next_positions"][row],
        )

    def suffix(self, batch: SegmentBatch) -> SuffixBatch:
        """The questions behind every segment of their video, with all memory tokens; rows (v, n, q)."""
        rows = batch.texts[:, None, :].expand(-1, batch.moments.shape[1], -1).flatten()
        return self.model.suffix(self._tables["suffix_ids"][rows], self._tables["suffix_lengths"][rows])

    def read_segments(self, batch: SegmentBatch, patches: Tensor) -> SegmentsRead:
        """The questions read over all segments: everything but what is read of them."""
        states, seeing = self.see(batch, patches)
        prefix, lengths, positions = self.prefill(batch, states)
        suffix = self.suffix(batch)
        hidden = self.model.read(prefix, lengths, positions, suffix)
        logits = suffix.last(hidden).float() @ self.model.relevance_direction
        wanted = batch.relevant.transpose(1, 2).flatten()
        losses = {"see": seeing, "route": nn.functional.binary_cross_entropy_with_logits(logits, wanted.float())}
        losses["find"] = self._finding(batch, prefix, lengths, positions)
        return SegmentsRead(states, suffix, hidden, losses, {"auc": area_under_curve(logits, wanted)})

    def named(self, hidden: Tensor, batch: SegmentBatch) -> tuple[Tensor, Tensor]:
        """The loss of naming what each segment answers, and the share of answering segments named right."""
        truth = batch.reads.transpose(1, 2).flatten(0, 2)
        said = [probe(hidden) for probe in self.probes.read]
        losses = [_balanced(logits, truth[:, i]) for i, logits in enumerate(said)]
        right = torch.stack([logits.argmax(-1) == truth[:, i] for i, logits in enumerate(said)]).all(0)
        relevant = batch.relevant.transpose(1, 2).flatten()
        return torch.stack(losses).sum(), (right & relevant).sum() / relevant.sum().clamp(min=1)

    def _finding(
        self, batch: SegmentBatch, prefix: list[tuple[Tensor, Tensor]], lengths: Tensor, positions: Tensor
    ) -> Tensor:
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


def answer_loss(logits: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of ``answers`` [rows, A], and which are said right [rows]; ``logits`` [rows, A, vocabulary]."""
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=-100)
    return loss, ((logits.argmax(-1) == answers) | (answers < 0)).all(1)


def before_answers(hidden: Tensor, starts: Tensor, length: int) -> Tensor:
    """[rows, length, D]: of prompts [rows, P, D] the states that answers which begin at ``starts`` are told from."""
    place = starts[:, None] - 1 + torch.arange(length, device=hidden.device)
    return hidden.gather(1, place.clamp(max=hidden.shape[1] - 1)[..., None].expand(-1, -1, hidden.shape[-1]))


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


def _shows_sought(batch: SegmentBatch) -> Tensor:
    """[V * FEATURE_QUESTIONS, V * N]: whether a segment shows what a question seeks."""
    sought, scenes = batch.sought[:, :FEATURE_QUESTIONS].flatten(0, 1), batch.scenes
    shows = torch.stack([scenes.thing, scenes.colour, scenes.motion], dim=-1)
    fits = (sought[:, None] == shows[None]) | (sought[:, None] < 0)
    found: Tensor = fits.all(-1) & (scenes.thing >= 0)[None]
    return found
