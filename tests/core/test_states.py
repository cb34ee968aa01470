"""Segment states as raw rows: exact in float32 and bfloat16, near in int8, the same read by numpy and by torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tempo_core.spec import StateDtype
from tempo_core.states import pack_rows, unpack_rows
from tempo_core.values import FloatArray, SegmentState, row_bytes
from tests.support.golden_cases import golden_case, golden_checkpoint, golden_states, small_segment

DTYPES: list[StateDtype] = ["float32", "bfloat16", "int8"]
CPU = torch.device("cpu")

numbers = st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)
visuals = hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 5), st.just(8)), elements=numbers)


def state_of(visual: FloatArray, dtype: StateDtype) -> SegmentState:
    rows = pack_rows(torch.from_numpy(visual), dtype).numpy()
    return SegmentState(rows, dtype, (1, 4, 4), (0.5,))


@given(visuals, st.sampled_from(DTYPES))
def test_rows_have_the_shape_that_is_stored(visual: FloatArray, dtype: StateDtype) -> None:
    state = state_of(visual, dtype)
    assert state.rows.dtype == np.uint8
    assert state.rows.shape == (*visual.shape[:2], row_bytes(8, dtype))
    assert state.hidden_size == 8
    assert state.nbytes == state.rows.size


@given(visuals)
def test_float32_is_exact(visual: FloatArray) -> None:
    np.testing.assert_array_equal(state_of(visual, "float32").visual, visual)


@given(visuals)
def test_bfloat16_is_rounded_as_torch_rounds(visual: FloatArray) -> None:
    expected = torch.from_numpy(visual).bfloat16().float().numpy()
    np.testing.assert_array_equal(state_of(visual, "bfloat16").visual, expected)


@given(visuals)
def test_int8_is_within_half_a_step_of_each_row(visual: FloatArray) -> None:
    step = np.abs(visual).max(axis=-1, keepdims=True) / 127
    error = np.abs(state_of(visual, "int8").visual - visual)
    assert (error <= step * 0.5001).all()


@given(visuals, st.sampled_from(DTYPES))
def test_numpy_and_torch_read_the_same_numbers(visual: FloatArray, dtype: StateDtype) -> None:
    state = state_of(visual, dtype)
    np.testing.assert_array_equal(state.visual, unpack_rows(state, CPU, torch.float32).numpy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_zeros_stay_zeros(dtype: StateDtype) -> None:
    assert (state_of(np.zeros((2, 3, 8), np.float32), dtype).visual == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_can_be_views_of_one_buffer(dtype: StateDtype) -> None:
    visual = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
    whole = state_of(visual, dtype)
    buffer = np.concatenate([np.zeros(whole.nbytes, np.uint8), whole.rows.reshape(-1)])
    view = SegmentState(buffer[whole.nbytes :].reshape(whole.rows.shape), dtype, (1, 4, 4), (0.5,))
    np.testing.assert_array_equal(view.visual, whole.visual)
    np.testing.assert_array_equal(unpack_rows(view, CPU, torch.float32).numpy(), whole.visual)


def test_states_can_be_read_only() -> None:
    state = state_of(np.ones((2, 3, 8), np.float32), "bfloat16")
    frozen = SegmentState(
        np.frombuffer(state.rows.tobytes(), np.uint8).reshape(state.rows.shape), "bfloat16", (1, 4, 4), (0.5,)
    )
    np.testing.assert_array_equal(unpack_rows(frozen, CPU, torch.float32).numpy(), state.visual)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.01), ("int8", 0.01)])
def test_smaller_states_give_scores_near_those_of_float32(dtype: StateDtype, tolerance: float) -> None:
    case, compressor = golden_case("d"), golden_checkpoint().compressor
    scores = compressor.relevance(compressor.encode(case.segments, dtype), case.question)
    np.testing.assert_allclose(scores, case.scores, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "step"), [("float32", 0.0), ("bfloat16", 2**-8), ("int8", 0.5 / 127)])
def test_encoder_packs_what_it_computed(dtype: StateDtype, step: float) -> None:
    exact = golden_states("d")[0]
    (packed,) = golden_checkpoint().compressor.encode(golden_case("d").segments, dtype)
    largest = np.abs(exact.visual).max(axis=-1, keepdims=True)
    assert packed.dtype == dtype
    assert (np.abs(packed.visual - exact.visual) <= step * largest + 1e-6).all()


def test_states_are_kept_in_the_models_own_type_by_default() -> None:
    assert golden_checkpoint().compressor.encode([small_segment()])[0].dtype == "float32"
    assert golden_checkpoint("bfloat16").compressor.encode([small_segment()])[0].dtype == "bfloat16"
