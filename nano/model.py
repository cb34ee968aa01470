"""The models in training: the published modules, run with gradients over whole batches of one frame geometry.

The forward passes are those of ``tempo_core`` (a test holds them equal), written for fixed shapes so that they compile.
Shapes: B segments, Q questions of a segment, T frame pairs, S visual tokens of a segment, D hidden, K memory tokens,
R the longest prefix behind the chat head, U the longest question with its memory tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import Qwen3Config, Qwen3VLConfig

from nano.decoder import KeyValue, decoder_layer, run_layers
from nano.optimize import Optimize, as_written
from nano.render import FRAME_EDGE
from nano.sizes import NANO, base_config, tempo_config
from nano.tokenizer import TEMPO_WORDING, Wording, vocabulary
from tempo_core import modules
from tempo_core.pixels import MERGE, PAIR, PATCH

Tensor = torch.Tensor

GRID = FRAME_EDGE // PATCH  # patches along an edge
EMBED_STD = 0.044  # so that the relevance direction, a difference of two rows, is about 1 long


class Svlm(nn.Module):
    """A small Qwen3-VL, whose layers run as ``optimize`` makes them; as it is, the model of stock layout."""

    def __init__(self, config: dict[str, Any], wording: Wording, optimize: Optimize = as_written) -> None:
        super().__init__()
        self.run_layers = partial(run_layers, optimize(decoder_layer))
        self._vision_block = optimize(vision_block)
        parsed = Qwen3VLConfig(**config)
        self.vision: Any = modules.vision_tower(parsed.vision_config)
        self.text: Any = modules.text_model(parsed.text_config)
        for module in (self.vision, self.text):
            _initialize(module)
        ids = vocabulary(wording)
        self._yes_no = ids[wording.routing.positive], ids[wording.routing.negative]
        self.register_buffer("rotary", _vision_rotary(self.vision))
        self.register_buffer("merge_order", _merge_order())

    @property
    def head_rows(self) -> Tensor:
        """[vocabulary, D]: the rows of lm_head, which is tied to the embeddings."""
        rows: Tensor = self.text.embed_tokens.weight
        return rows

    @property
    def relevance_direction(self) -> Tensor:
        """[D]: the head's row of "Yes" minus that of "No"."""
        yes, no = self._yes_no
        return self.head_rows[yes] - self.head_rows[no]

    def _words(self, ids: Tensor) -> Tensor:
        """The SVLM's embeddings, [..., D]."""
        return nn.functional.embedding(ids, self.text.embed_tokens.weight)

    def encode(self, patches: Tensor) -> Tensor:
        """[B, T, GRID * GRID, 1536] in -1..1 to visual states [B, 1 + deepstack, S, D]."""
        batch, pairs = patches.shape[:2]
        weight = self.vision.patch_embed.proj.weight
        hidden = nn.functional.linear(patches, weight.flatten(1), self.vision.patch_embed.proj.bias)
        hidden = (hidden + self.vision.pos_embed.weight[self.get_buffer("merge_order")]).flatten(0, 2)
        rotary: Any = self.get_buffer("rotary").repeat(1, batch * pairs, 1).unbind(0)
        bounds = torch.arange(batch * pairs + 1, device=patches.device, dtype=torch.int32) * GRID**2
        levels: list[Tensor] = []
        for depth, block in enumerate(self.vision.blocks):
            hidden = self._vision_block(block, hidden, bounds, rotary)
            if depth in NANO.deepstack:
                levels.append(self.vision.deepstack_merger_list[len(levels)](hidden))
        stacked = torch.stack([self.vision.merger(hidden), *levels])
        split: Tensor = stacked.unflatten(1, (batch, -1)).transpose(0, 1)
        return split

    def head(self, ids: Tensor) -> list[KeyValue]:
        """Keys and values of the chat head that all prefixes share, [1, H, length, head size] a layer."""
        positions = torch.arange(len(ids), device=ids.device).expand(3, 1, -1)
        kept: list[KeyValue] = []
        self.run_layers(self.text, self._words(ids)[None], positions, None, None, kept=kept)
        return kept

    def prefill(self, states: Tensor, prefix: PrefixBatch, head: list[KeyValue]) -> list[KeyValue]:
        """Keys and values of B whole prefixes, right-padded, [B, H, head + R, head size] a layer."""
        place = prefix.visual_places[..., None].expand(-1, -1, states.shape[-1])
        embeds = self._words(prefix.ids).masked_fill(prefix.is_visual[..., None], 0.0).to(states.dtype)
        embeds = embeds.scatter_add(1, place, states[:, 0])
        levels = [torch.zeros_like(embeds).scatter_add(1, place, states[:, i]) for i in range(1, states.shape[1])]
        length, seen = embeds.shape[1], head[0][0].shape[2]
        mask = torch.ones(length, seen + length, dtype=torch.bool, device=embeds.device).tril(seen)
        kept: list[KeyValue] = []
        self.run_layers(self.text, embeds, prefix.positions, head, mask[None, None], deepstack=levels, kept=kept)
        return kept

    def read(self, prefix: list[KeyValue], lengths: Tensor, next_positions: Tensor, suffix: SuffixBatch) -> Tensor:
        """Final-normed states [B * Q, U, D] of suffixes behind prefixes of ``lengths`` [B] real tokens.

        The Q suffixes of a segment run as one row that sees its prefix once: nothing is repeated.
        """
        batch, (rows, new) = len(lengths), suffix.embeds.shape[:2]
        step = torch.arange(new, device=lengths.device).repeat(rows // batch)
        positions = (next_positions[:, None] + step).expand(3, -1, -1)
        real = torch.arange(prefix[0][0].shape[2], device=lengths.device) < lengths[:, None]
        block = torch.arange(len(step), device=lengths.device) // new
        own = (block[:, None] == block) & (step[:, None] >= step)
        parts = [real[:, None].expand(-1, len(step), -1), own.expand(batch, -1, -1)]
        embeds = suffix.embeds.reshape(batch, len(step), -1)
        hidden = self.run_layers(self.text, embeds, positions, prefix, torch.cat(parts, dim=2)[:, None])
        return hidden.reshape(rows, new, -1)

    def suffix(self, ids: Tensor, lengths: Tensor) -> SuffixBatch:
        """Prompts [rows, longest] of ``lengths``."""
        return SuffixBatch(self._words(ids), lengths)

    def read_pairs(self, ids: Tensor, positions: Tensor, visual: Tensor, states: Tensor) -> Tensor:
        """Final-normed states [rows, P, D] over right-padded prompts of frame pairs.

        ``ids`` [rows, P], ``positions`` [3, rows, P]; ``visual`` [rows, P]: 1 + the number of the visual token that
        stands there, else 0; ``states`` [rows, L, visual tokens, D].
        """
        is_visual = (visual > 0)[..., None]
        place = (visual - 1).clamp(min=0)[..., None].expand(-1, -1, states.shape[-1])
        levels = [states[:, level].gather(1, place) for level in range(states.shape[1])]
        embeds = torch.where(is_visual, levels[0], self._words(ids).to(states.dtype))
        added = [level * is_visual for level in levels[1:]]
        return self.run_layers(self.text, embeds, positions, None, None, deepstack=added)


class NanoModel(Svlm):
    """SVLM, memory tokens, projector and LLM.

    ``base_embed``: the SVLM's embeddings as they began, never trained.
    """

    def __init__(self, optimize: Optimize = as_written) -> None:
        super().__init__(base_config(), TEMPO_WORDING, optimize)
        fields: dict[str, Any] = tempo_config()
        llm = Qwen3Config(**{k: v for k, v in fields.items() if k not in ("model_type", "dtype")})
        self.llm: Any = modules.language_model(llm)
        self.projector = modules.projector("mlp2x_gelu", NANO.hidden, NANO.llm_hidden)
        for module in (self.llm, self.projector):
            _initialize(module)
        self.memory_tokens = nn.Parameter(torch.randn(NANO.memory_tokens, NANO.hidden) * EMBED_STD)
        self.register_buffer("base_embed", self.text.embed_tokens.weight.detach().clone())

    @property
    def head_rows(self) -> Tensor:
        """[vocabulary, D]: of the base, which is what inference reads them from."""
        return self.get_buffer("base_embed")

    def suffix(self, ids: Tensor, lengths: Tensor) -> SuffixBatch:
        """Prompts [rows, longest] of ``lengths`` with all memory tokens right behind each."""
        longest, count = ids.shape[1], len(self.memory_tokens)
        step = torch.arange(longest + count, device=ids.device)[None] - lengths[:, None]
        words = self._words(nn.functional.pad(ids, (0, count)))
        memory = nn.functional.embedding(step.clamp(0, count - 1), self.memory_tokens)  # indexing adds up in turn
        return SuffixBatch(torch.where((step >= 0)[..., None], memory, words), lengths)

    def answer(self, embeds: Tensor) -> Tensor:
        """The LLM's final-normed states [rows, length, D] over right-padded prompts."""
        positions = torch.arange(embeds.shape[1], device=embeds.device)[None]
        return self.run_layers(self.llm.model, embeds, positions, None, None)


@dataclass(frozen=True)
class PrefixBatch:
    """Prefixes behind the chat head: ids, is_visual [B, R]; positions [3, B, R]; visual_places [B, S]."""

    ids: Tensor
    is_visual: Tensor
    positions: Tensor
    visual_places: Tensor


@dataclass(frozen=True)
class SuffixBatch:
    """``embeds`` [rows, U, D], of which the first ``lengths`` [rows] are the prompt; memory tokens follow."""

    embeds: Tensor
    lengths: Tensor

    def last(self, hidden: Tensor) -> Tensor:
        """[rows, D]: the state of the last prompt token."""
        return hidden[torch.arange(len(hidden), device=hidden.device), self.lengths - 1]

    def memory(self, hidden: Tensor, count: int) -> Tensor:
        """[rows, K, D]: the states of the memory tokens."""
        place = self.lengths[:, None] + torch.arange(count, device=hidden.device)
        return hidden.gather(1, place[..., None].expand(-1, -1, hidden.shape[-1]))


def vision_block(block: Any, hidden: Tensor, bounds: Tensor, rotary: KeyValue) -> Tensor:
    """One layer of the vision tower."""
    out: Tensor = block(hidden, cu_seqlens=bounds, position_embeddings=rotary)
    return out


def patchify(frames: Tensor) -> Tensor:
    """[B, F, E, E, 3] in 0..1 to [B, F / 2, GRID * GRID, 1536] in -1..1, ordered as ``tempo_core.pixels.patchify``."""
    batch, count = frames.shape[:2]
    blocks = GRID // MERGE
    split = frames.view(batch, count // PAIR, PAIR, blocks, MERGE, PATCH, blocks, MERGE, PATCH, 3)
    ordered = split.permute(0, 1, 3, 6, 4, 7, 9, 2, 5, 8)
    return ordered.reshape(batch, count // PAIR, GRID**2, -1) * 2 - 1


def _merge_order() -> Tensor:
    """[GRID * GRID]: the place in the learned grid of each patch in merge-block order."""
    blocks = GRID // MERGE
    return torch.arange(GRID**2).view(blocks, MERGE, blocks, MERGE).permute(0, 2, 1, 3).flatten()


def _initialize(module: Any) -> None:
    """Real weights for a module on the meta device, in the order of their names, from torch's seed."""
    state = {}
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1:
            fill = 1.0 if name.endswith("weight") else 0.0
            state[name] = torch.full(parameter.shape, fill)
        elif "embed" in name and "proj" not in name:
            state[name] = torch.randn(parameter.shape) * EMBED_STD
        else:
            state[name] = torch.randn(parameter.shape) / math.sqrt(math.prod(parameter.shape[1:]))
            state[name] *= 0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
    module.load_state_dict(state, strict=False, assign=True)
    module.requires_grad_(True)


def _vision_rotary(vision: Any) -> Tensor:
    """[2, GRID * GRID, head size]: cosines and sines of one frame pair, as the tower itself computes them."""
    seen: list[Tensor] = []

    def note(_: nn.Module, __: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(torch.stack(kwargs["position_embeddings"]).detach())

    hook = vision.blocks[0].register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        patches = torch.zeros(GRID**2, 3 * PAIR * PATCH**2)
        vision(patches, grid_thw=torch.tensor([[1, GRID, GRID]]))
    hook.remove()
    return seen[0]
