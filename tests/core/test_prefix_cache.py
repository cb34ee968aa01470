"""KV caches of prefixes: sized, sliced, moved; what a layer sees of them and what is masked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tempo_core.prefix_cache import PrefixCache
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
    assert prefix.kv.shape[:3] == (4, 2, sum(prefix.lengths))
    assert len(prefix) == len(prefix.lengths) == len(prefix.next_positions) == 4
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


@pytest.mark.parametrize("segment", range(4))
def test_each_segment_reads_its_own_prefix_to_its_end(prefix: PrefixCache, segment: int) -> None:
    kv = prefix.kv.clone()
    kv[:, :, prefix.bounds[segment + 1] - 1] += 1
    changed, before = scores(replace(prefix, kv=kv)), scores(prefix)
    for other in range(4):
        assert (changed[other] != pytest.approx(before[other], abs=1e-5)) == (other == segment)


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
