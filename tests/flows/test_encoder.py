"""One model for many videos: chunks that wait together share a batch, and each gets back its own and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from flows.failure import ENCODE, Failure, attempt
from flows.video.encoder import Encoded, Encoder
from tempo_core.errors import GpuLost, NotFinite, UsageError
from tempo_core.pixels import ENCODED_AT_A_TIME
from tempo_core.values import SegmentPixels
from tests.support.golden_cases import golden_checkpoint, small_segment

GRIDS = [(2, 4, 4), (1, 4, 6), (4, 6, 4)]


class Watched:
    """The golden compressor, which records the sizes of its batches, waits for ``gate`` before each, and fails for the
    segments ``not_finite``."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[int] = []
        self.not_finite: Sequence[SegmentPixels] = ()

    def encode_on_device(self, pixels: Sequence[SegmentPixels], **options: Any) -> Any:
        self.batches.append(len(pixels))
        assert self.gate.wait(timeout=60)
        if any(segment is bad for segment in pixels for bad in self.not_finite):
            raise NotFinite("the features of segment 1 are not finite")
        return golden_checkpoint().compressor.encode_on_device(pixels, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(golden_checkpoint().compressor, name)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def encoder(watched: Watched) -> Iterator[Encoder]:
    with Encoder(replace(golden_checkpoint(), router=watched), "float32") as opened:  # type: ignore[arg-type]
        yield opened
        watched.gate.set()


def video(seed: int, segments: int) -> list[SegmentPixels]:
    """Segments that look like no other video's."""
    return [small_segment(GRIDS[seed % 3], 10.0 * index + 0.5, seed=100 * seed + index) for index in range(segments)]


def alone(pixels: Sequence[SegmentPixels]) -> Encoded:
    compressor = golden_checkpoint().compressor
    states = compressor.encode(pixels, state_dtype="float32")
    return Encoded(states, compressor.features(compressor.prefill(states)), 0.0)


def assert_same(encoded: Encoded, expected: Encoded) -> None:
    assert len(encoded.states) == len(expected.states) == len(encoded.features)
    np.testing.assert_allclose(encoded.features, expected.features, rtol=0, atol=2e-5)
    for state, due in zip(encoded.states, expected.states, strict=True):
        assert (state.grid_thw, state.pair_times_s) == (due.grid_thw, due.pair_times_s)
        np.testing.assert_allclose(state.visual, due.visual, rtol=0, atol=2e-5)


def test_chunks_that_wait_together_share_a_batch(encoder: Encoder, watched: Watched) -> None:
    futures = [encoder.submit(video(seed, segments)) for seed, segments in [(0, 1), (1, 5), (2, 9), (3, 4)]]
    watched.gate.set()
    assert [len(future.result(timeout=60).states) for future in futures] == [1, 5, 9, 4]
    assert watched.batches in ([1, 14, 4], [15, 4])  # the first may have begun before the second came


def test_each_video_gets_its_own_states_whoever_shared_its_batch(encoder: Encoder, watched: Watched) -> None:
    watched.gate.set()
    videos = [video(seed, segments=1 + seed % 5) for seed in range(24)]
    with ThreadPoolExecutor(8) as threads:
        encoded = list(threads.map(lambda pixels: encoder.submit(pixels).result(timeout=60), videos))
    assert len(watched.batches) < len(videos)
    for own, pixels in zip(encoded, videos, strict=True):
        assert_same(own, alone(pixels))
    first, other = (encoded[number].states[0].visual for number in (0, 3))  # of one shape
    assert not np.allclose(first, other, atol=1e-3)


def test_no_batch_is_larger_than_the_largest(encoder: Encoder, watched: Watched) -> None:
    futures = [encoder.submit(video(seed, segments=7)) for seed in range(6)]
    watched.gate.set()
    for future in futures:
        future.result(timeout=60)
    assert sum(watched.batches) == 42
    assert max(watched.batches) <= ENCODED_AT_A_TIME


def test_a_chunk_that_cannot_be_encoded_fails_alone(encoder: Encoder, watched: Watched) -> None:
    broken = [replace(segment, patches=segment.patches[:, :100]) for segment in video(1, segments=2)]
    chunks = [video(0, 1), video(2, 2), broken, video(3, 2)]
    first, second, third, fourth = [encoder.submit(chunk) for chunk in chunks]
    watched.gate.set()
    with pytest.raises(RuntimeError):
        third.result(timeout=60)
    for future, pixels in ((first, chunks[0]), (second, chunks[1]), (fourth, chunks[3])):
        assert_same(future.result(timeout=60), alone(pixels))


def test_numbers_that_are_not_finite_fail_their_own_video_only(encoder: Encoder, watched: Watched) -> None:
    chunks = [video(0, 1), video(1, 2), video(2, 3), video(3, 1)]
    watched.not_finite = chunks[2]
    first, second, third, fourth = [encoder.submit(chunk) for chunk in chunks]
    watched.gate.set()
    assert attempt("c.mp4", third.result) == Failure(ENCODE, "the features of segment 1 are not finite")
    for future, pixels in ((first, chunks[0]), (second, chunks[1]), (fourth, chunks[3])):
        assert_same(future.result(timeout=60), alone(pixels))


def test_an_error_that_no_batch_can_cause_is_raised_as_it_is(encoder: Encoder, watched: Watched) -> None:
    watched.gate.set()
    short = [replace(segment, patches=segment.patches[:-1]) for segment in video(1, segments=1)]
    with pytest.raises(UsageError, match="do not fit a grid"):
        encoder.submit(short).result(timeout=60)


def test_features_of_stored_states_keep_the_encoder_busy_too(encoder: Encoder) -> None:
    states = alone(video(0, 2)).states
    assert encoder.features(states).result(timeout=60).shape[0] == 2
    assert encoder.busy_s > 0


def test_what_waits_is_counted(encoder: Encoder, watched: Watched) -> None:
    futures = [encoder.submit(video(seed, segments=3)) for seed in range(3)]
    assert encoder.queued_segment_count in (6, 9)
    watched.gate.set()
    for future in futures:
        future.result(timeout=60)
    assert encoder.queued_segment_count == 0
    assert encoder.busy_s > 0


def test_a_gpu_that_failed_is_no_fault_of_the_videos_after_it(encoder: Encoder, watched: Watched) -> None:
    """CUDA repeats its error for all that follows: recorded for each, a whole archive would have failed for good."""

    def fail(*_: Any, **__: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    watched.encode_on_device = fail  # type: ignore[method-assign]
    with pytest.raises(GpuLost, match="the GPU stopped"):
        attempt("a.mp4", encoder.submit(video(1, 2)).result)
