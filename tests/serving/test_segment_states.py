"""A question about segments of which only frames are kept is answered as one about stored states."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engine import Engine
from serving.segment_states import SegmentStates
from serving.selection import Scope, SelectedSegment
from storage import Library, open_library
from storage.asked import asked_times
from tempo_core.checkpoint_parts import Checkpoint
from tempo_core.errors import CorruptPart
from tempo_core.pixels import encode_jpeg
from tempo_core.spec import PAPER, StateDtype
from tempo_core.values import SegmentState
from tests.support.golden_cases import golden_checkpoint, stock_checkpoint
from tests.support.libraries import add_video, drop_states
from tests.support.storage_harness import part_files
from tests.support.waiting import wait_until

QUESTION = "What color is the square?"
CHECKPOINTS = pytest.mark.parametrize("checkpoint", [golden_checkpoint, stock_checkpoint], ids=["tempo", "stock"])


def made(folder: Path, checkpoint: Checkpoint, dtype: StateDtype = "float32") -> Library:
    """Two videos, of 9 and 5 segments."""
    library = open_library(str(folder / "library"), create=True)
    for name, seconds in (("lecture", 36), ("storm", 20)):
        add_video(library, checkpoint, name, seconds, replace(PAPER, name="plain", state_dtype=dtype))
    return library


def selected(library: Library) -> list[SelectedSegment]:
    return [SelectedSegment(video, segment) for video in library.videos() for segment in library.segments(video)]


def read(states: SegmentStates, segments: list[SelectedSegment]) -> list[SegmentState]:
    return states.computed(segments, states.load(segments))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_states_computed_from_kept_frames_are_those_that_were_stored(tmp_path: Path, dtype: StateDtype) -> None:
    library = made(tmp_path, golden_checkpoint(), dtype)
    stored = [state for video in library.videos() for state in library.read_states(video)]
    drop_states(library)
    computed = read(SegmentStates(library, golden_checkpoint().router), selected(library))
    assert part_files(library) == {video.frames_part.path for video in library.videos()}
    for mine, due in zip(computed, stored, strict=True):
        assert (mine.dtype, mine.grid_thw, mine.pair_times_s) == (due.dtype, due.grid_thw, due.pair_times_s)
        np.testing.assert_array_equal(mine.rows, due.rows)


@CHECKPOINTS
@pytest.mark.parametrize("limits", [{}, {"candidates": 5}, {"from_s": 6.0, "to_s": 15.0}], ids=str)
def test_an_answer_from_kept_frames_equals_one_from_stored_states(
    tmp_path: Path, checkpoint: Any, limits: dict[str, Any]
) -> None:
    library = made(tmp_path, checkpoint())
    expected = Engine(library, checkpoint()).ask(QUESTION, Scope(**limits), max_new_tokens=12)
    drop_states(library)
    answer = Engine(library, checkpoint()).ask(QUESTION, Scope(**limits), max_new_tokens=12)
    assert (answer.answer, answer.usage) == (expected.answer, expected.usage)
    for mine, due in zip(answer.segments, expected.segments, strict=True):
        assert (mine.uri, mine.index, mine.tokens, mine.pairs) == (due.uri, due.index, due.tokens, due.pairs)
        assert mine.relevance == pytest.approx(due.relevance, abs=1e-6)


@CHECKPOINTS
def test_the_states_of_a_segment_are_computed_once_for_a_question(
    tmp_path: Path, checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = made(tmp_path, checkpoint())
    drop_states(library)
    encoded: list[int] = []
    router = checkpoint().router
    encode = router.encode

    def noting(pixels: Any, **how: Any) -> Any:
        encoded.append(len(pixels))
        return encode(pixels, **how)

    monkeypatch.setattr(router, "encode", noting)
    bare = Engine(library, checkpoint(), device_cache_bytes=0, host_cache_bytes=0)
    bare.ask(QUESTION, max_new_tokens=1)
    assert sum(encoded) == 14


def test_computed_states_are_kept_within_their_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = made(tmp_path, golden_checkpoint())
    drop_states(library)
    segments = selected(library)
    whole = read(SegmentStates(library, golden_checkpoint().router), segments)
    monkeypatch.setattr("serving.segment_states.memory_bytes", lambda: 32 * 3 * whole[0].rows.nbytes)
    states = SegmentStates(library, golden_checkpoint().router)
    again = [read(states, segments)]
    assert list(states._computed) == [segment.key for segment in segments[-3:]]
    again += [read(states, segments)]
    assert [[state.rows.tobytes() for state in one] for one in again] == [[one.rows.tobytes() for one in whole]] * 2
    assert len(states._computed) == 3


@pytest.mark.parametrize(
    ("jpegs", "reason"),
    [
        ([b"no picture"] * 8, "lecture.mp4, segment 0: kept frame 0 cannot be decoded"),
        (encode_jpeg(np.zeros((8, 50, 96, 3), np.uint8), 80), "lecture.mp4, segment 0: the kept frames are damaged"),
        (encode_jpeg(np.zeros((8, 32, 32, 3), np.uint8), 80), "lecture.mp4, segment 0: its frames are not those"),
        (encode_jpeg(np.zeros((7, 64, 96, 3), np.uint8), 80), "lecture.mp4: segment 0 lacks frames"),
    ],
    ids=["no JPEG", "no whole patches", "another size", "too few"],
)
def test_damaged_frames_are_one_clear_error(
    tmp_path: Path, jpegs: list[bytes], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = made(tmp_path, golden_checkpoint())
    drop_states(library)
    kept = (jpegs, [0.0] * len(jpegs))
    monkeypatch.setattr(library, "read_frames", lambda video, indices: [(index, *kept) for index in indices])
    with pytest.raises(CorruptPart, match=reason):
        Engine(library, golden_checkpoint()).ask(QUESTION)


def test_a_question_notes_which_videos_it_was_about(tmp_path: Path) -> None:
    library = made(tmp_path, golden_checkpoint())
    with library.writer() as writer:
        writer.set_states_budget(10**9)
    (lecture,) = library.videos(select=["lecture.mp4"])
    Engine(library, golden_checkpoint()).ask(QUESTION, Scope((lecture,)), max_new_tokens=1)
    assert wait_until(lambda: asked_times(library.store).keys() == {lecture.video_id})
