"""Parity with the published method: its golden values, from pixels and from video files, through stored states."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from storage import Source, StagedVideo, VideoFacts, open_library
from tempo_core import allocate
from tempo_core.decoding import find_ffmpeg, probe, read_segments
from tempo_core.pixels import decode_jpeg, encode_jpeg, patchify
from tempo_core.prefix_cache import QuestionCache
from tempo_core.prompts import PromptEncoder, time_tag
from tempo_core.values import ByteArray, SegmentPixels, SegmentState
from tests.support.golden_cases import CASE_NAMES, PADDING, GoldenCase, golden_case, golden_checkpoint, golden_states


@dataclass(frozen=True)
class Run:
    """What this project computes for a golden case."""

    case: GoldenCase
    encoded: tuple[SegmentState, ...]
    stored: list[SegmentState]
    read: QuestionCache


def through_library(case: GoldenCase, states: tuple[SegmentState, ...], folder: Path) -> list[SegmentState]:
    """Written as Parquet parts of a library, committed, and read back from its catalog."""
    prints = golden_checkpoint().fingerprints(case.spec)
    height, width = case.frames.shape[1:3]
    facts = VideoFacts(float(case.sampling.duration_s), width, height, "golden", case.spec)
    library = open_library(str(folder), create=True)
    video_id = hashlib.sha256(case.frames.tobytes()).hexdigest()
    with library.writer() as writer, library.stage(video_id, prints) as video:
        for span, state in zip(case.spans, states, strict=True):
            frames = case.frames[span.first : span.first + span.count]
            times_s = [float(case.sampling.time_s(span.first + i)) for i in range(span.count)]
            video.add_frames(span.index, encode_jpeg(frames, case.spec.jpeg_quality), times_s)
            video.add_state(state)
        video.add_features(np.zeros((len(states), 64), np.float32), case.spans)
        writer.commit(StagedVideo(video.finish(), Source(f"file:///{case.name}.mkv", 1, "1"), facts))
    (record,) = open_library(str(folder)).videos()
    return open_library(str(folder)).read_states(record, verify=True)


@pytest.fixture(scope="module", params=CASE_NAMES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    case, compressor = golden_case(request.param), golden_checkpoint().compressor
    encoded = golden_states(case.name)
    stored = through_library(case, encoded, tmp_path_factory.mktemp("library"))
    return Run(case, encoded, stored, compressor.read(compressor.prefill(stored), case.question))


@pytest.fixture(scope="module")
def memory(run: Run) -> list[torch.Tensor]:
    return golden_checkpoint().compressor.compress(run.read, run.case.question, run.case.allocation)


@pytest.fixture(scope="module")
def prompts() -> PromptEncoder:
    return golden_checkpoint().compressor._prompts


def test_states_come_back_from_parquet_bit_by_bit(run: Run) -> None:
    for encoded, stored in zip(run.encoded, run.stored, strict=True):
        np.testing.assert_array_equal(encoded.rows, stored.rows)
        assert (encoded.dtype, encoded.grid_thw, encoded.pair_times_s) == (
            stored.dtype,
            stored.grid_thw,
            stored.pair_times_s,
        )


def test_grids_are_equal(run: Run) -> None:
    assert tuple(state.grid_thw for state in run.stored) == run.case.grids


def test_time_tags_are_equal(run: Run) -> None:
    assert tuple(map(time_tag, run.case.tag_times_s)) == run.case.tags


def test_compressor_prompts_are_equal_token_by_token(run: Run, prompts: PromptEncoder) -> None:
    suffix = prompts.question_suffix(run.case.question)
    for state, golden in zip(run.stored, run.case.input_ids, strict=True):
        ids = [*prompts.prefix(state.grid_thw, state.pair_times_s, merge=2).ids, *suffix]
        assert ids == golden[: len(ids)].tolist()
        assert set(golden[len(ids) :].tolist()) <= {PADDING}


def test_first_prompt_reads_as_published(run: Run, prompts: PromptEncoder) -> None:
    first = run.stored[0]
    ids = [
        *prompts.prefix(first.grid_thw, first.pair_times_s, merge=2).ids,
        *prompts.question_suffix(run.case.question),
    ]
    text = prompts._tokenizer.decode([int(token) for token in ids], skip_special_tokens=False)
    assert text == run.case.first_prompt.replace("<|endoftext|>", "")


def test_scores_are_within_1e_5(run: Run) -> None:
    np.testing.assert_allclose(run.read.scores, run.case.scores, rtol=0, atol=1e-5)


def test_all_memory_tokens_are_within_1e_4(run: Run) -> None:
    everything = [128] * len(run.stored)
    memory = golden_checkpoint().compressor.compress(run.read, run.case.question, everything)
    np.testing.assert_allclose(np.stack(memory), run.case.features, rtol=0, atol=1e-4)


def test_allocated_memory_tokens_alone_are_within_1e_4(run: Run, memory: list[torch.Tensor]) -> None:
    assert [len(tokens) for tokens in memory] == run.case.allocation.tolist()
    for tokens, golden in zip(memory, run.case.features, strict=True):
        np.testing.assert_allclose(tokens, golden[: len(tokens)], rtol=0, atol=1e-4)


def test_allocation_is_equal(run: Run) -> None:
    assert allocate(run.read.scores, run.case.token_budget).tolist() == run.case.allocation.tolist()


def test_llm_input_is_within_1e_4(run: Run, memory: list[torch.Tensor]) -> None:
    prompt = golden_checkpoint().answerer.prompt(run.case.question, run.case.tag_times_s, memory)
    np.testing.assert_allclose(prompt.embeds.numpy(), run.case.llm_embeds, rtol=0, atol=1e-4)


def test_next_logits_are_within_1e_4(run: Run, memory: list[torch.Tensor]) -> None:
    answerer = golden_checkpoint().answerer
    logits = answerer.next_logits(answerer.prompt(run.case.question, run.case.tag_times_s, memory))
    np.testing.assert_allclose(logits, run.case.next_logits, rtol=0, atol=1e-4)


def test_generated_tokens_are_equal(run: Run, memory: list[torch.Tensor]) -> None:
    answerer = golden_checkpoint().answerer
    answer = answerer.generate(run.case.question, run.case.tag_times_s, memory, max_new_tokens=12)
    assert answer.token_ids == run.case.generated.tolist()


# --- from video files ------------------------------------------------------------------------------------------------


def lossless_video(case: GoldenCase, path: Path) -> Path:
    """The golden frames as FFV1, bit by bit, at the case's frame rate."""
    height, width = case.frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-framerate", str(case.fps), "-i", "-"]
    command = [find_ffmpeg(), "-v", "error", *raw, "-c:v", "ffv1", "-pix_fmt", "gbrp", "-y", str(path)]
    subprocess.run(command, input=case.frames.tobytes(), check=True, timeout=60)
    return path


def as_indexed(frames: ByteArray, case: GoldenCase) -> ByteArray:
    """Frames as they are kept: what is encoded is what a later model will find."""
    return decode_jpeg(encode_jpeg(frames, case.spec.jpeg_quality))


@dataclass(frozen=True)
class Decoded:
    """A golden case read from a video file."""

    case: GoldenCase
    pixels: list[SegmentPixels]
    times_s: list[float]


@pytest.fixture(scope="module", params=["a", "b", "c"])
def decoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    case = golden_case(request.param)
    path = lossless_video(case, tmp_path_factory.mktemp("video") / f"{case.name}.mkv")
    found: list[SegmentPixels] = []
    times_s: list[float] = []
    with read_segments(path, probe(path), case.spec, golden_checkpoint().geometry) as reader:
        for segment, span in zip(reader, case.spans, strict=True):
            patches, grid = patchify(as_indexed(segment.pixels, case))
            found.append(SegmentPixels(patches, grid, span.pair_times_s))
            times_s += segment.times_s
    assert reader.warnings == ()
    return Decoded(case, found, times_s)


def test_video_file_is_sampled_at_the_golden_frames(decoded: Decoded) -> None:
    assert decoded.times_s == [float(decoded.case.sampling.time_s(i)) for i in range(len(decoded.case.frames))]


def test_video_file_gives_the_golden_grids(decoded: Decoded) -> None:
    assert tuple(segment.grid_thw for segment in decoded.pixels) == decoded.case.grids


def test_video_file_gives_the_golden_pixels_but_for_the_resample(decoded: Decoded) -> None:
    ours = np.concatenate([segment.patches for segment in decoded.pixels]) / np.float32(127.5) - 1
    assert np.abs(ours - decoded.case.pixels).mean() < 0.02


def test_video_file_gives_the_golden_scores_to_0_05(decoded: Decoded) -> None:
    compressor = golden_checkpoint().compressor
    scores = compressor.relevance(compressor.encode(decoded.pixels), decoded.case.question)
    np.testing.assert_allclose(scores, decoded.case.scores, rtol=0, atol=0.05)
