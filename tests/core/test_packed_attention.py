"""Packed segments attend as each would alone; how many segments one pass takes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tempo_core.packed_attention import PackedAttention, joined_mask
from tempo_core.prefix_cache import PrefixCache, passes_of

LAYERS, HEADS, GROUPS, WIDTH = 2, 2, 3, 4


class _Layer(torch.nn.Module):
    """What transformers asks of the layer that attends: the second of ``LAYERS``."""

    layer_idx = 1
    num_key_value_groups = GROUPS
    is_causal = True


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _slab(lengths: list[int]) -> PrefixCache:
    return PrefixCache(_random(LAYERS, 2, sum(lengths), HEADS, WIDTH), tuple(lengths), tuple(lengths))


def _alone(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The last tokens of one segment, query [n, GROUPS * HEADS, D], over all of it, [length, HEADS, D]."""
    keys, values = (one.repeat_interleave(GROUPS, dim=1) for one in (keys, values))
    scores = torch.einsum("qhd,khd->hqk", query, keys) * 0.5
    later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(scores.shape[2] - scores.shape[1] + 1)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(later, float("-inf")).softmax(-1), values)


@given(
    lengths=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), max_size=3),
    seen=st.integers(0, 3),
    data=st.data(),
)
def test_packed_segments_attend_as_each_alone(lengths: list[list[int]], seen: int, data: st.DataObject) -> None:
    segments = sum(map(len, lengths)) or data.draw(st.integers(1, 3))
    counts = data.draw(st.lists(st.integers(1, 4), min_size=segments, max_size=segments))
    slabs = [_slab(of_slab) for of_slab in lengths]
    asked = [_random(LAYERS, 2, seen * len(slab), HEADS, WIDTH) for slab in slabs] if seen else []
    query, new = _random(1, GROUPS * HEADS, sum(counts), WIDTH), _random(2, 1, HEADS, sum(counts), WIDTH)
    packed = PackedAttention(counts, GROUPS, torch.device("cpu"), slabs, asked)
    found = packed.attend(_Layer(), query, new[0], new[1], 0.5)[0].split(counts)
    prefixes = [one for slab in slabs for one in slab.kv[1].split(slab.lengths, dim=1)]
    questions = [one for of_slab in asked for one in of_slab[1].split(seen, dim=1)]
    own = new[:, 0].transpose(1, 2).split(counts, dim=1)
    for segment, ours in enumerate(found):
        parts = [some[segment] for some in (prefixes, questions, own) if some]
        keys, values = torch.cat(parts, dim=1)
        rows = query[0].transpose(0, 1).split(counts)[segment]
        torch.testing.assert_close(ours, _alone(rows, keys, values), atol=1e-5, rtol=1e-5)


def test_new_keys_and_values_are_kept_for_their_layer_only() -> None:
    keep = torch.zeros(LAYERS, 2, 5, HEADS, WIDTH)
    key, value = _random(1, HEADS, 5, WIDTH), _random(1, HEADS, 5, WIDTH) + 1
    packed = PackedAttention([2, 3], GROUPS, torch.device("cpu"), keep=keep)
    packed.attend(_Layer(), _random(1, GROUPS * HEADS, 5, WIDTH), key, value, 0.5)
    assert torch.equal(keep[1], torch.stack([key[0], value[0]]).transpose(1, 2))
    assert not keep[0].any()


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), seen=st.integers(0, 4), new=st.integers(1, 5))
def test_mask_lets_a_token_see_its_prefix_and_what_came_before(lengths: list[int], seen: int, new: int) -> None:
    longest = max(lengths)
    mask = torch.from_numpy(joined_mask(lengths, seen, new))
    assert mask.shape == (len(lengths), 1, new, longest + seen + new)
    for segment, length in enumerate(lengths):
        for token in range(new):
            visible = [*range(length), *range(longest, longest + seen + token + 1)]
            assert mask[segment, 0, token].nonzero().flatten().tolist() == visible


@given(st.lists(st.lists(st.integers(0, 9000), max_size=150), max_size=4))
def test_passes_take_every_segment_once_in_order_within_bounds(new_tokens: list[list[int]]) -> None:
    taken = []
    for part in passes_of(new_tokens):
        rows = [(one.slab, row) for one in part for row in range(one.start, one.stop)]
        tokens = sum(new_tokens[slab][row] for slab, row in rows)
        assert len(rows) == 1 or (0 < len(rows) <= 128 and tokens <= 1 << 14)
        taken += rows
    assert taken == [(slab, row) for slab, counts in enumerate(new_tokens) for row in range(len(counts))]


@pytest.mark.parametrize(("segments", "passes"), [(0, 0), (1, 1), (128, 1), (129, 2)])
def test_four_slabs_of_an_hour_share_a_pass(segments: int, passes: int) -> None:
    slabs = [[30] * min(32, segments - first) for first in range(0, segments, 32)]
    assert len(list(passes_of(slabs))) == passes
