"""Ways to give a segment and a question vectors whose cosine is to find the segment: the stored feature and others.

All come from states that exist at index time, so none knows the question. Shapes: N segments, V vectors of a segment,
T frame pairs, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from tempo_core.compressor import Compressor
from tempo_core.packed_attention import PackedAttention
from tempo_core.prefix_cache import PrefixCache
from tempo_core.prompts import TEMPO_SYSTEM
from tempo_core.values import FloatArray, SegmentState

ONE_WORD, VISUAL, MEAN, PAIRS, GENERIC = (
    "one word",
    "mean of visual states",
    "mean of prefix states",
    "a vector a frame pair",
    "relevance position, no question",
)
WAYS = (ONE_WORD, VISUAL, MEAN, PAIRS, GENERIC)


@torch.inference_mode()
def segment_vectors(
    compressor: Compressor, states: Sequence[SegmentState]
) -> tuple[PrefixCache, dict[str, FloatArray]]:
    """The segments' prefixes, and by way their vectors, float32 [N, V, D]."""
    with _final_states(compressor) as seen:
        prefix = compressor.prefill(states)
    pairs = _pair_means(compressor, states, torch.cat(seen))
    empty = compressor._prompts.question_suffix("")
    generic = compressor._last_hidden([prefix], empty, None)
    return prefix, {
        ONE_WORD: compressor.features(prefix)[:, None],
        VISUAL: np.stack([state.visual[0].mean(axis=0) for state in states])[:, None],
        MEAN: pairs.mean(axis=1, keepdims=True),
        PAIRS: pairs,
        GENERIC: generic.float().cpu().numpy()[:, None],
    }


@torch.inference_mode()
def question_vectors(compressor: Compressor, question: str) -> dict[str, FloatArray]:
    """By way the question's vector, float32 [D]."""
    prompts, device = compressor._prompts, compressor.device
    head = prompts._trusted(prompts._chat(TEMPO_SYSTEM)[0])
    text = prompts._question("", question)
    with _final_states(compressor) as seen:
        one_word = compressor.question_feature(question)
    spoken = seen[0][len(head) : len(head) + len(text)].float().mean(dim=0).cpu().numpy()
    words = compressor._text.embed_tokens(torch.tensor(text, device=device)).float().mean(dim=0).cpu().numpy()
    ids = torch.tensor(head + prompts.question_suffix(question), device=device)
    positions = torch.arange(len(ids), device=device).expand(3, -1)
    alone = PackedAttention([len(ids)], compressor._groups, device)
    asked = compressor._run_layers(compressor._text.embed_tokens(ids), positions, alone)[-1]
    return {ONE_WORD: one_word, VISUAL: words, MEAN: spoken, PAIRS: spoken, GENERIC: asked.float().cpu().numpy()}


def cosines(segments: FloatArray, questions: FloatArray) -> FloatArray:
    """[Q, N]: the best cosine of each question's vector [Q, D] with a segment's [N, V, D]."""
    found: FloatArray = np.einsum("qd,nvd->qnv", _unit(questions), _unit(segments), optimize=True).max(axis=2)
    return found


def _unit(vectors: FloatArray) -> FloatArray:
    unit: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return unit


@contextmanager
def _final_states(compressor: Compressor) -> Iterator[list[torch.Tensor]]:
    """The final-normed hidden states [T, D] of every pass meanwhile."""
    seen: list[torch.Tensor] = []
    hook = compressor._text.norm.register_forward_hook(lambda module, given, normed: seen.append(normed[0]))
    try:
        yield seen
    finally:
        hook.remove()


def _pair_means(compressor: Compressor, states: Sequence[SegmentState], hidden: torch.Tensor) -> FloatArray:
    """The mean over each frame pair's visual tokens, [N, T, D]. ``hidden``: of all prefixes, one behind the other."""
    most = max(state.grid_thw[0] for state in states)
    means = np.zeros((len(states), most, hidden.shape[1]), np.float32)
    first = 0
    for place, state in enumerate(states):
        tokens = compressor._prompts.prefix(state.grid_thw, state.pair_times_s, compressor._merge)
        visual = hidden[first + torch.from_numpy(tokens.is_visual.nonzero()[0]).to(hidden.device)]
        pairs = visual.float().unflatten(0, (state.grid_thw[0], -1)).mean(dim=1).cpu().numpy()
        means[place, : len(pairs)] = pairs
        means[place, len(pairs) :] = pairs[-1]
        first += len(tokens.ids)
    return means
