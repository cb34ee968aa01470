"""Part files: bit-exact, ordinary Parquet for everyone, one range read per segment for us."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import Library, VideoRecord, open_library
from storage.frame_part import FramesPartWriter
from storage.state_part import STATE_COLUMN, StatesPartWriter
from tempo_core.errors import CorruptPart, NoSpace, UsageError
from tempo_core.spec import StateDtype
from tempo_core.values import SegmentState, row_bytes
from tests.support import ROOT
from tests.support.storage_harness import (
    PRINTS,
    SPEC,
    commit,
    facts_of,
    fill,
    put,
    source_of,
    stage,
    states_part,
    tiny_video,
)

DTYPES: tuple[StateDtype, ...] = ("float32", "bfloat16", "int8")


@pytest.fixture
def video(library: Library) -> VideoRecord:
    with library.writer() as writer:
        return put(library, writer, "/talk.mp4", seed=1)


@st.composite
def segment_states(draw: st.DrawFn) -> list[SegmentState]:
    """One video's: any bit pattern (NaN and infinities too), the last segment perhaps shorter."""
    dtype = draw(st.sampled_from(DTYPES))
    levels, tokens, hidden = draw(st.integers(1, 4)), draw(st.integers(1, 40)), draw(st.integers(1, 64))
    counts = [tokens] * draw(st.integers(0, 3)) + [draw(st.integers(1, tokens))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [
        SegmentState(
            rng.integers(0, 256, (levels, count, row_bytes(hidden, dtype)), np.uint8), dtype, (1, 2, count), (0.5,)
        )
        for count in counts
    ]


def write_states(path: Path, states: list[SegmentState]) -> tuple[str, int, list[tuple[int, int]]]:
    writer = StatesPartWriter(path)
    for state in states:
        writer.add(state)
    sha256, size, slices = writer.finish()
    return sha256, size, [(one.offset, one.length) for one in slices]


@given(segment_states())
def test_states_lie_bit_for_bit_where_the_offsets_say(
    tmp_path_factory: pytest.TempPathFactory, states: list[SegmentState]
) -> None:
    path = tmp_path_factory.mktemp("part") / "states.parquet"
    sha256, size, places = write_states(path, states)
    data = path.read_bytes()
    assert [data[offset : offset + length] for offset, length in places] == [state.rows.tobytes() for state in states]
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, size)


@given(segment_states())
def test_plain_parquet_readers_get_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, states: list[SegmentState]
) -> None:
    path = tmp_path_factory.mktemp("part") / "states.parquet"
    write_states(path, states)
    part = pq.ParquetFile(path)
    assert part.num_row_groups == len(states)
    for position, state in enumerate(states):
        rows = part.read_row_group(position)[STATE_COLUMN].to_pylist()
        assert b"".join(rows) == state.rows.tobytes()


def test_a_segment_is_one_page_however_many_rows_it_has(tmp_path: Path) -> None:
    """pyarrow would begin a new page at a megabyte or 20,000 rows."""
    rows = np.random.default_rng(0).integers(0, 256, (2, 30_000, 64), np.uint8)
    states = [SegmentState(rows, "bfloat16", (1, 2, 3), (0.5,))] * 2
    _, size, places = write_states(tmp_path / "states.parquet", states)
    assert [length for _, length in places] == [rows.nbytes] * 2
    assert size < 2 * rows.nbytes + 4096


def test_the_same_content_makes_the_same_bytes(tmp_path: Path) -> None:
    parts = []
    for name in ("one", "two"):
        library = open_library(str(tmp_path / name), create=True)
        with library.writer() as writer:
            record = put(library, writer, f"/{name}.mp4", seed=7)
        parts.append([library.store.read_bytes(part.path) for part in record.parts])
    assert parts[0] == parts[1]


def test_states_of_different_row_sizes_are_refused(tmp_path: Path) -> None:
    writer = StatesPartWriter(tmp_path / "states.parquet")
    writer.add(tiny_video(1, dtype="float32").states[0])
    with pytest.raises(ValueError, match="int8"):
        writer.add(tiny_video(1, dtype="int8").states[0])
    writer.abort()


def test_frames_must_come_in_order(tmp_path: Path) -> None:
    writer = FramesPartWriter(tmp_path / "frames.parquet")
    with pytest.raises(ValueError, match="segment 1"):
        writer.add(1, [b"jpeg"], [0.0])
    writer.abort()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_read_is_what_was_written(library: Library, dtype: StateDtype) -> None:
    video = tiny_video(3, dtype=dtype)
    facts = facts_of(video, replace(SPEC, state_dtype=dtype))
    with library.writer() as writer:
        record = commit(writer, stage(library, video), source_of("/talk.mp4", 3), facts)
    for got, made in zip(library.read_states(record, verify=True), video.states, strict=True):
        assert (got.dtype, got.grid_thw, got.pair_times_s) == (made.dtype, made.grid_thw, made.pair_times_s)
        np.testing.assert_array_equal(got.rows, made.rows)


def test_frames_are_read_with_their_times(library: Library, video: VideoRecord) -> None:
    made = tiny_video(1)
    expected = [(span.index, made.jpegs[span.index], made.times_s[span.index]) for span in made.spans]
    assert list(library.read_frames(video)) == expected
    assert list(library.read_frames(video, [2])) == expected[2:]


def test_chosen_segments_come_in_the_order_asked_for(library: Library, video: VideoRecord) -> None:
    made = tiny_video(1).states
    got = library.read_states(video, [2, 0])
    assert [state.rows.tobytes() for state in got] == [made[2].rows.tobytes(), made[0].rows.tobytes()]


def test_an_index_there_is_not_is_the_callers_mistake(library: Library, video: VideoRecord) -> None:
    with pytest.raises(UsageError, match="no segment 3: the video has 3"):
        library.read_states(video, [3])
    with pytest.raises(UsageError, match="no segment 3: the video has 3"):
        list(library.read_frames(video, [3]))


def test_states_are_views_of_one_buffer_without_gaps(library: Library, video: VideoRecord) -> None:
    first, second = library.read_states(video, [0, 1])
    assert second.rows.ctypes.data == first.rows.ctypes.data + first.rows.nbytes


def test_a_segment_costs_one_read_of_its_own_bytes(
    library: Library, video: VideoRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    preadv = os.preadv

    def counting(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        reads.append(preadv(descriptor, buffers, offset))
        return reads[-1]

    monkeypatch.setattr(os, "preadv", counting)
    segments = library.segments(video)
    library.read_states(video, [1], segments=segments)
    assert reads == [segments[1].state.length]


def part_file(library: Library, video: VideoRecord) -> Path:
    return Path(library.uri, states_part(video).path)


def test_a_flipped_bit_is_found_when_asked(library: Library, video: VideoRecord) -> None:
    path, segment = part_file(library, video), library.segments(video)[1]
    data = bytearray(path.read_bytes())
    data[segment.state.offset + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptPart, match=r"states-.*segment 1 "):
        library.read_states(video, verify=True)
    assert any("SHA-256" in problem.reason for problem in library.verify())


def test_a_short_part_is_corrupt_and_a_missing_one_too(library: Library, video: VideoRecord) -> None:
    path = part_file(library, video)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CorruptPart, match=f"{path}.*cut short"):
        library.read_states(video)
    path.unlink()
    with pytest.raises(CorruptPart, match=f"{path}.*missing"):
        library.read_states(video)
    frames = Path(library.uri, video.frames_part.path)
    os.truncate(frames, 100)
    with pytest.raises(CorruptPart, match=r"frames-.*index it again"):
        list(library.read_frames(video))
    frames.unlink()
    with pytest.raises(CorruptPart, match=r"frames-.*missing"):
        list(library.read_frames(video))


def test_an_abandoned_video_leaves_nothing(library: Library) -> None:
    video = tiny_video(4)
    with library.stage(video.video_id, PRINTS) as writing:
        fill(writing, video)
        assert list(library.store.files("parts"))
    assert not list(library.store.files("parts"))
    assert not library.videos()


def test_nothing_is_committed_into_the_last_bytes_of_a_disk(
    library: Library, video: VideoRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library.store, "free_bytes", lambda: 1000)
    with library.writer() as writer, pytest.raises(NoSpace, match="only 1000 bytes are free"):
        put(library, writer, "/second.mp4", seed=2)
    assert library.videos() == [video]
    assert {file.path for file in library.store.files("parts")} == {part.path for part in video.parts}


def test_prune_makes_room_on_a_full_disk(library: Library, video: VideoRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    with library.writer() as writer:
        writer.remove([video.uri])
        monkeypatch.setattr(library.store, "free_bytes", lambda: 0)
        assert writer.prune(grace_s=0) >= states_part(video).size
    assert library.verify(grace_s=0) == []


FULL_DISK = """
import resource, sys
from storage import open_library
from tests.support.storage_harness import put
from tempo_core.errors import NoSpace
library = open_library(sys.argv[1])
with library.writer() as writer:
    put(library, writer, "/first.mp4", 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
    try:
        put(library, writer, "/second.mp4", 2)
    except NoSpace as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [200, 1500, 2900, 3000, 3100, 3600])
def test_a_full_disk_is_one_clear_error_and_leaves_nothing_half(library: Library, limit: int) -> None:
    """The kernel's own refusal: a limit on file sizes, which a part or a table file meets."""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}){FULL_DISK}", library.uri, str(limit)],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    assert "no space left at" in told
    assert [record.uri for record in library.videos()] == ["/first.mp4"]
    assert not [file for file in library.store.files("parts") if file.path.endswith(".staged")]
    with library.writer() as writer:
        writer.prune(grace_s=0)
    assert library.verify() == []
