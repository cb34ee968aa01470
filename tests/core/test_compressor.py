"""The SVLM split where the question begins: batched equals one by one, k tokens are the first k, plain values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tempo_core.compressor import Compressor
from tempo_core.errors import NotFinite, UsageError
from tempo_core.values import FloatArray, SegmentPixels, SegmentState
from tests.support.golden_cases import golden_case, golden_checkpoint, golden_prefix, golden_states, small_segment

QUESTION = "What happens here, and when?"
# Grids mixed, a short last segment, times of three to six digits: prefixes of many lengths.
MIXED = [
    small_segment((2, 4, 4), 0.5, seed=1),
    small_segment((1, 4, 6), 9.5, seed=2),
    small_segment((2, 4, 4), 99.5, seed=3),
    small_segment((4, 6, 4), 1000.5, seed=4),
    small_segment((1, 4, 6), 10000.5, seed=5),
    small_segment((1, 4, 4), 20000.5, seed=6),
]
COUNTS = [3, 0, 7, 1, 2, 5]


def compressor(batch_segments: int = 32) -> Compressor:
    """The golden one, with forward passes of at most so many segments."""
    golden = golden_checkpoint().compressor
    parts = (golden._vision, golden._text, golden._memory_tokens, golden._direction, golden._prompts)
    return Compressor(*parts, batch_segments=batch_segments)


@pytest.fixture(scope="module")
def states() -> list[SegmentState]:
    return compressor().encode(MIXED)


def near(ours: Sequence[FloatArray | torch.Tensor], theirs: Sequence[FloatArray | torch.Tensor]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 4])
def test_encoding_in_batches_equals_one_by_one_in_order(batch: int, states: list[SegmentState]) -> None:
    near([state.visual for state in compressor(batch).encode(MIXED)], [state.visual for state in states])
    assert [state.grid_thw for state in states] == [segment.grid_thw for segment in MIXED]
    assert [state.pair_times_s for state in states] == [segment.pair_times_s for segment in MIXED]


@pytest.mark.parametrize("batch", [2, 32])
def test_prefixes_in_batches_equal_one_by_one(batch: int, states: list[SegmentState]) -> None:
    together = compressor(batch).prefill(states)
    assert len(set(together.lengths)) == len(MIXED)
    for row, state in enumerate(states):
        (length,) = (alone := compressor().prefill([state])).lengths
        assert together.lengths[row] == length
        assert together.next_positions[row] == alone.next_positions[0]
        near([together.rows(row, row + 1).kv.numpy()], [alone.kv.numpy()])


@pytest.mark.parametrize("batch", [2, 32])
def test_scores_in_batches_equal_one_by_one(batch: int, states: list[SegmentState]) -> None:
    one_by_one = [compressor().relevance([state], QUESTION)[0] for state in states]
    np.testing.assert_allclose(compressor(batch).relevance(states, QUESTION), one_by_one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [2, 32])
def test_memory_tokens_in_batches_equal_one_by_one(batch: int, states: list[SegmentState]) -> None:
    together = compressor(batch).compress(states, QUESTION, COUNTS)
    alone = [compressor().compress([state], QUESTION, [k])[0] for state, k in zip(states, COUNTS, strict=True)]
    assert [len(tokens) for tokens in together] == COUNTS
    near(together, alone)


@pytest.mark.parametrize("batch", [2, 32])
def test_features_in_batches_equal_one_by_one(batch: int, states: list[SegmentState]) -> None:
    alone = [compressor().features([state])[0] for state in states]
    near(list(compressor(batch).features(states)), alone)


def test_order_of_segments_changes_no_score(states: list[SegmentState]) -> None:
    scores = compressor(4).relevance(states, QUESTION)
    order = [3, 0, 5, 1, 4, 2]
    shuffled = compressor(4).relevance([states[i] for i in order], QUESTION)
    np.testing.assert_allclose(shuffled, scores[order], rtol=0, atol=1e-5)


# --- the same by every way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 17, 127])
def test_computing_k_memory_tokens_gives_the_first_k_of_all(count: int) -> None:
    case = golden_case("d")
    (tokens,) = compressor().compress(golden_prefix("d"), case.question, [count])
    near([tokens], [case.features[0, :count]])


def test_states_prefixes_and_a_reading_compress_alike(states: list[SegmentState]) -> None:
    prefix = compressor().prefill(states)
    read = compressor().read(prefix, QUESTION)
    from_states = compressor().compress(states, QUESTION, COUNTS)
    near(compressor().compress(prefix, QUESTION, COUNTS), from_states)
    near(compressor().compress(read, QUESTION, COUNTS), from_states)


def test_scores_are_those_of_a_reading(states: list[SegmentState]) -> None:
    prefix = compressor().prefill(states)
    np.testing.assert_array_equal(compressor().read(prefix, QUESTION).scores, compressor().relevance(prefix, QUESTION))


def test_asking_changes_no_prefix(states: list[SegmentState]) -> None:
    prefix = compressor().prefill(states)
    before = prefix.kv.clone()
    compressor().compress(prefix, QUESTION, COUNTS)
    compressor().features(prefix)
    assert bool((prefix.kv == before).all())


def test_bytes_are_normalized_as_the_published_pixels_are() -> None:
    segment = small_segment((2, 4, 6), seed=9)
    floats = replace(segment, patches=(segment.patches / 127.5 - 1).astype(np.float32))
    both = [state.visual for state in compressor().encode([segment, floats])]
    near(both[:1], both[1:])


def test_bytes_and_floats_can_be_mixed() -> None:
    segments = [small_segment(seed=seed) for seed in range(4)]
    mixed: list[SegmentPixels] = [
        replace(segment, patches=(segment.patches / 127.5 - 1).astype(np.float32)) if i % 2 else segment
        for i, segment in enumerate(segments)
    ]
    near([state.visual for state in compressor().encode(mixed)], [s.visual for s in compressor().encode(segments)])


def test_deepstack_features_matter(states: list[SegmentState]) -> None:
    first = states[0]
    assert first.visual.shape[0] == 4  # the tower's output and three levels behind it
    for level in range(4):
        rows = first.rows.copy()
        rows[level] = 0
        changed = compressor().relevance([replace(first, rows=rows)], QUESTION)
        assert abs(changed[0] - compressor().relevance([first], QUESTION)[0]) > 1e-5


# --- features --------------------------------------------------------------------------------------------------------


def test_features_are_of_unit_length_and_differ(states: list[SegmentState]) -> None:
    features = compressor().features(states)
    assert features.shape == (len(MIXED), 64)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    assert len({feature.tobytes() for feature in features}) == len(MIXED)


def test_question_features_live_in_the_same_space() -> None:
    feature = compressor().question_feature("Where is the red square?")
    assert feature.shape == (64,)
    assert np.linalg.norm(feature) == pytest.approx(1, abs=1e-6)
    assert not np.array_equal(feature, compressor().question_feature("Who speaks?"))
    np.testing.assert_array_equal(
        compressor().question_feature(""), compressor().question_feature("Describe this content.")
    )


# --- what comes out, and what is refused -----------------------------------------------------------------------------


def test_everything_that_comes_out_is_a_plain_float32_array(states: list[SegmentState]) -> None:
    found: list[Any] = [
        compressor().relevance(states, QUESTION),
        compressor().features(states),
        compressor().question_feature(QUESTION),
        *(state.visual for state in states),
    ]
    assert {type(one) for one in found} == {np.ndarray}
    assert {one.dtype for one in found} == {np.dtype(np.float32)}
    prefix = compressor().prefill(states)
    assert prefix.device.type == "cpu"
    assert not prefix.kv.requires_grad


def test_memory_tokens_stay_on_the_device_for_the_answering_llm(states: list[SegmentState]) -> None:
    for tokens, count in zip(compressor().compress(states, QUESTION, COUNTS), COUNTS, strict=True):
        assert (tokens.shape, tokens.dtype, tokens.requires_grad) == ((count, 64), torch.float32, False)


def test_bfloat16_model_gives_float32_values() -> None:
    half = golden_checkpoint("bfloat16").compressor
    prefix = half.prefill(half.encode([small_segment()]))
    assert {half.relevance(prefix, QUESTION).dtype, half.features(prefix).dtype} == {np.dtype(np.float32)}
    (memory,) = half.compress(prefix, QUESTION, [2])
    assert memory.dtype == torch.bfloat16


def test_nothing_in_gives_nothing_out() -> None:
    assert compressor().encode([]) == []
    assert len(compressor().prefill([])) == 0
    assert compressor().relevance([], QUESTION).shape == (0,)
    assert compressor().features([]).shape == (0, 64)
    assert compressor().compress([], QUESTION, []) == []


def test_no_memory_tokens_can_be_asked_for(states: list[SegmentState]) -> None:
    memory = compressor(2).compress(states, QUESTION, [0, 0, 0, 0, 0, 2])
    assert [tokens.shape for tokens in memory] == [(0, 64)] * 5 + [(2, 64)]


def test_all_learned_memory_tokens_can_be_asked_for() -> None:
    assert compressor().max_memory_tokens == 128
    assert compressor().compress(golden_states("d"), QUESTION, [128])[0].shape == (128, 64)


@pytest.mark.parametrize("counts", [[1], [1, 1, 1], [1, -1], [1, 129], []])
def test_counts_that_do_not_fit_are_refused(counts: list[int], states: list[SegmentState]) -> None:
    with pytest.raises(UsageError, match=r"one count per segment \(2\), each within 0\.\.128"):
        compressor().compress(states[:2], QUESTION, counts)


def test_reading_of_another_question_is_refused(states: list[SegmentState]) -> None:
    read = compressor().read(states[:1], QUESTION)
    with pytest.raises(UsageError, match="a question other than the one that was read"):
        compressor().compress(read, "Another one?", [1])


def test_pixels_that_do_not_fit_their_grid_are_refused() -> None:
    segment = small_segment((2, 4, 4))
    for broken in (replace(segment, patches=segment.patches[:-1]), replace(segment, pair_times_s=(0.5,))):
        with pytest.raises(UsageError, match=r"segment 1: .*grid of 2 frame pairs of 4 x 4 patches"):
            compressor().encode([segment, broken])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_the_videos_fault_not_the_checkpoints(value: float) -> None:
    (state,) = golden_states("d")
    broken = replace(state, rows=np.full(state.visual.shape, value, np.float32).view(np.uint8))
    with pytest.raises(NotFinite, match="--retry-failed"):
        compressor().relevance([broken], "Is it?")
    with pytest.raises(NotFinite, match="--retry-failed"):
        compressor().features([broken])


def test_an_infinite_logit_is_not_a_score() -> None:
    golden = golden_checkpoint().compressor
    direction = torch.zeros_like(golden._direction)
    direction[0] = torch.inf
    infinite = Compressor(golden._vision, golden._text, golden._memory_tokens, direction, golden._prompts)
    with pytest.raises(NotFinite):
        infinite.relevance(golden_states("d"), "Is it?")
