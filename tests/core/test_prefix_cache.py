"""KV caches of prefixes: sized, sliced, moved; what a layer sees of them and what is masked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tempo_core.prefix_cache import LayerCache, PrefixCache, suffix_mask
from tests.support.golden_cases import golden_checkpoint, small_segment

QUESTION = "Which one?"


@pytest.fixture(scope="module")
def prefix() -> PrefixCache:
    """Four segments of different lengths: one or two frame pairs, times of three to six digits."""
    segments = [
        small_segment((1, 4, 4), 0.5, seed=1),
        small_segment((2, 4, 4), 10.5, seed=2),
        small_segment((1, 4, 6), 100.5, seed=3),
        small_segment((2, 4, 4), 1000.5, seed=4),
    ]
    compressor = golden_checkpoint().compressor
    return compressor.prefill(compressor.encode(segments))


def scores(prefix: PrefixCache) -> list[float]:
    return [float(score) for score in golden_checkpoint().compressor.relevance(prefix, QUESTION)]


def test_it_is_sized(prefix: PrefixCache) -> None:
    layers, two, segments, _, longest, _ = prefix.kv.shape
    assert (layers, two, segments) == (4, 2, 4)
    assert len(prefix) == len(prefix.lengths) == len(prefix.next_positions) == 4
    assert max(prefix.lengths) == longest
    assert len(set(prefix.lengths)) > 2
    assert prefix.nbytes == prefix.kv.numel() * 4
    assert prefix.device == torch.device("cpu")


def test_rows_are_a_view_of_consecutive_segments(prefix: PrefixCache) -> None:
    part = prefix.rows(1, 3)
    assert len(part) == 2
    assert part.lengths == prefix.lengths[1:3]
    assert part.kv.untyped_storage().data_ptr() == prefix.kv.untyped_storage().data_ptr()
    np.testing.assert_allclose(scores(part), scores(prefix)[1:3], atol=1e-5)


def test_selected_segments_come_in_the_order_asked_for(prefix: PrefixCache) -> None:
    part = prefix.select([3, 0])
    assert part.lengths == (prefix.lengths[3], prefix.lengths[0])
    assert part.kv.untyped_storage().data_ptr() != prefix.kv.untyped_storage().data_ptr()
    whole = scores(prefix)
    np.testing.assert_allclose(scores(part), [whole[3], whole[0]], atol=1e-5)


def test_no_segments_can_be_selected(prefix: PrefixCache) -> None:
    assert scores(prefix.select([])) == []


def test_it_moves_between_devices(prefix: PrefixCache) -> None:
    assert prefix.to("cpu") is prefix
    moved = prefix.to("meta")  # the one other device that every machine has
    assert moved.device.type == "meta"
    assert (moved.lengths, moved.next_positions, moved.nbytes) == (prefix.lengths, prefix.next_positions, prefix.nbytes)


def test_what_pads_is_never_read(prefix: PrefixCache) -> None:
    kv = prefix.kv.clone()
    for segment, length in enumerate(prefix.lengths):
        kv[:, :, segment, :, length:] = 1e3
    np.testing.assert_allclose(scores(replace(prefix, kv=kv)), scores(prefix), atol=1e-6)


def test_what_does_not_pad_is_read(prefix: PrefixCache) -> None:
    kv = prefix.kv.clone()
    kv[:, :, 0, :, prefix.lengths[0] - 1] += 1
    assert scores(replace(prefix, kv=kv))[0] != pytest.approx(scores(prefix)[0], abs=1e-5)


def test_a_reading_can_wait_without_its_prefix(prefix: PrefixCache) -> None:
    compressor = golden_checkpoint().compressor
    read = compressor.read(prefix, QUESTION)
    waiting = read.without_prefix()
    assert len(waiting) == len(read)
    assert waiting.prefix.nbytes == 0
    ours = compressor.compress(waiting.on(prefix), QUESTION, [2, 3, 1, 4])
    for one, other in zip(ours, compressor.compress(read, QUESTION, [2, 3, 1, 4]), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="2 prefixes for a reading of 4"):
        waiting.on(prefix.rows(0, 2))


def test_a_layer_sees_past_and_new_and_what_is_new_is_kept() -> None:
    shape = (2, 2, 3, 1, 5, 4)  # layers, keys and values, segments, heads, tokens, head size
    past, question = torch.randn(shape), torch.randn(*shape[:4], 2, 4)
    keep = torch.zeros(*shape[:4], 6, 4)
    keys, values = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    all_keys, all_values = LayerCache([past, question], keep).update(keys, values, 1)
    assert torch.equal(all_keys, torch.cat([past[1, 0], question[1, 0], keys], dim=2))
    assert torch.equal(all_values, torch.cat([past[1, 1], question[1, 1], values], dim=2))
    assert torch.equal(keep[1, 0, :, :, :4], keys)
    assert torch.equal(keep[1, 1, :, :, :4], values)
    assert not keep[0].any()
    assert LayerCache().update(keys, values, 0) == (keys, values)


@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    padding=st.integers(0, 3),
    seen=st.integers(0, 4),
    new=st.integers(1, 5),
)
def test_mask_lets_a_token_see_its_prefix_and_what_came_before(
    lengths: list[int], padding: int, seen: int, new: int
) -> None:
    longest = max(lengths) + padding
    mask = suffix_mask(lengths, longest, seen, new, torch.device("cpu"))
    assert mask.shape == (len(lengths), 1, new, longest + seen + new)
    for segment, length in enumerate(lengths):
        for token in range(new):
            visible = [*range(length), *range(longest, longest + seen + token + 1)]
            assert mask[segment, 0, token].nonzero().flatten().tolist() == visible
