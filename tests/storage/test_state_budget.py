"""States are a cache: a budget drops those asked about least recently, and nothing else of a library changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import Library, VideoRecord, state_budget
from storage.asked import asked_times
from storage.state_budget import UsedPart, over_budget
from tempo_core.errors import LibraryError
from tests.support.storage_harness import (
    PRINTS,
    commit,
    facts_of,
    fill,
    index,
    part_files,
    prints_of,
    pruned,
    put,
    segment_rows,
    source_of,
    stage,
    tiny_video,
    video_id,
)

OTHER_TEXT = prints_of(text="another text model")
PARTS = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 5)), max_size=12)


def states_bytes(library: Library) -> int:
    (size,) = {record.states_part.size for record in library.videos() if record.states_part}
    return size


def keep_states_of(library: Library, count: int) -> state_budget.DroppedStates:
    """Bring it under a budget of so many of its videos, which are of one size."""
    with library.writer() as writer:
        writer.set_states_budget(count * states_bytes(library))
        return writer.keep_to_budget()


def without_states(library: Library) -> list[str]:
    return [record.uri for record in library.videos() if record.states_part is None]


def asked_at(library: Library, seed: int, time_s: float) -> None:
    """As if a video had been asked about at a time."""
    library.mark_asked([video_id(seed)])
    (mark,) = Path(library.uri, "asked").rglob(video_id(seed))
    os.utime(mark, (time_s, time_s))


@given(made=PARTS, budget=st.integers(0, 5000))
def test_what_stays_is_within_the_budget_and_no_more_is_dropped_than_needed(
    made: Sequence[tuple[int, int]], budget: int
) -> None:
    parts = [UsedPart(f"part-{number:02}", size, used_at) for number, (size, used_at) in enumerate(made)]
    dropped = over_budget(parts, budget)
    kept = [part for part in parts if part not in dropped]
    assert sum(part.size for part in kept) <= budget
    assert all(gone.used_at <= stays.used_at for gone in dropped for stays in kept), "least recently used first"
    if dropped:
        assert sum(part.size for part in [*kept, dropped[-1]]) > budget


def test_dropping_states_leaves_everything_else_as_it_was(library: Library) -> None:
    index(library, {"/a.mp4": 1, "/b.mp4": 1, "/c.mp4": 2})
    before = {record.uri: segment_rows(library, record) for record in library.videos()}
    dropped = keep_states_of(library, 1)
    assert (dropped.videos, dropped.bytes) == (1, states_bytes(library))
    assert without_states(library) == ["/a.mp4", "/b.mp4"], "a copy shares the part"
    assert {record.uri: segment_rows(library, record) for record in library.videos()} == before
    frames = [jpegs for _, jpegs, _ in library.read_frames(library.videos()[0])]
    assert frames == tiny_video(1).jpegs
    assert len(library.search(tiny_video(1).features[0], limit=9)) == 6
    assert library.verify() == []
    status = library.status()
    assert (status.without_states, status.states_bytes, status.unreferenced_bytes) == (1, dropped.bytes, dropped.bytes)


def test_states_that_are_not_kept_are_asked_for_in_vain(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    keep_states_of(library, 0)
    with pytest.raises(LibraryError, match="its states are not kept, only its frames"):
        library.read_states(library.videos()[0])


def test_a_reader_of_before_still_reads_what_was_dropped_for_the_grace_period(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(library, {"/a.mp4": 1})
    monkeypatch.setattr("storage.sweep.generation_time", lambda generation: 0.0)  # it was indexed long ago
    (before,) = library.videos()
    keep_states_of(library, 0)
    with library.writer() as writer:
        writer.prune(grace_s=3600)
    assert len(library.read_states(before, verify=True)) == 3
    pruned(library)
    assert part_files(library) == {before.frames_part.path}


def test_what_was_asked_about_lately_stays_and_what_never_was_goes_by_its_indexing(library: Library) -> None:
    index(library, {"/a.mp4": 1, "/b.mp4": 2, "/c.mp4": 3, "/d.mp4": 4})
    with library.writer() as writer:
        writer.set_states_budget(10**9)
    later = library.videos()[-1].indexed_at + 60
    asked_at(library, 1, later + 60)
    asked_at(library, 3, later)
    asked_at(library, 4, time_s=0.0)  # long before it was indexed anew
    orders = [(keep_states_of(library, count), without_states(library))[1] for count in (3, 2, 1)]
    assert orders == [["/b.mp4"], ["/b.mp4", "/d.mp4"], ["/b.mp4", "/c.mp4", "/d.mp4"]]


def test_a_part_that_another_model_shares_is_dropped_of_both(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    video = tiny_video(1)
    with library.writer() as writer:
        content = writer.find_content(video.video_id, OTHER_TEXT)
        assert content is not None and content.states is not None
        with library.stage(video.video_id, OTHER_TEXT) as writing:
            writing.reuse_states(content.states)
            writing.reuse_frames(content.states)
            writing.add_features(video.features, video.spans)
            commit(writer, writing.finish(), source_of("/a.mp4", 1), facts_of(video))
    assert keep_states_of(library, 0).videos == 1
    assert [record.states_part for record in library.videos("*")] == [None, None]
    assert library.verify() == []


def test_without_a_budget_nothing_is_dropped_or_marked(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    library.mark_asked([video_id(1)])
    with library.writer() as writer:
        assert writer.keep_to_budget() == state_budget.DroppedStates(0, 0)
    assert asked_times(library.store) == {}
    keep_states_of(library, 1)
    library.mark_asked([video_id(1)])
    assert asked_times(library.store).keys() == {video_id(1)}


def test_a_row_that_another_holder_replaced_meanwhile_keeps_its_states(library: Library) -> None:
    """On S3 a lease can be lost in the very moment of a commit."""
    index(library, {"/a.mp4": 1, "/b.mp4": 2})
    with library.writer() as writer:
        writer.set_states_budget(0)
        state_budget.drop_over_budget(library._catalog, 0, lambda: void(put(library, writer, "/a.mp4", 3)))
    assert without_states(library) == ["/b.mp4"]
    assert library.verify() == []


def void(_: VideoRecord) -> None:
    pass


def test_many_parts_are_dropped_in_several_commits(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_budget, "PARTS_A_COMMIT", 2)
    index(library, {f"/{seed}.mp4": seed for seed in range(5)})
    assert keep_states_of(library, 0).videos == 5
    assert len(without_states(library)) == 5


def test_a_video_is_marked_once_a_day(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    index(library, {"/a.mp4": 1})
    keep_states_of(library, 1)
    written: list[str] = []
    write = library.store.write_bytes

    def noting(path: str, data: bytes) -> None:
        written.append(path)
        write(path, data)

    monkeypatch.setattr(library.store, "write_bytes", noting)
    for _ in range(3):
        library.mark_asked([video_id(1)])
    assert len(written) == 1
    asked_at(library, 1, time_s=0.0)
    library.mark_asked([video_id(1)])
    assert len(written) == 2


@pytest.mark.parametrize("obstacle", ["file", "link"])
def test_a_library_that_takes_no_marks_is_asked_without_a_word(library: Library, obstacle: str, tmp_path: Path) -> None:
    index(library, {"/a.mp4": 1})
    keep_states_of(library, 1)
    place = Path(library.uri, "asked")
    if obstacle == "file":
        place.touch()
    else:
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    files = set(library.store.files(""))
    library.mark_asked([video_id(1)])
    assert set(library.store.files("")) == files
    assert not any((tmp_path / "elsewhere").glob("*"))


def test_the_mark_of_a_removed_video_goes_with_the_next_prune(library: Library) -> None:
    index(library, {"/a.mp4": 1, "/b.mp4": 2})
    keep_states_of(library, 2)
    library.mark_asked([video_id(1), video_id(2)])
    with library.writer() as writer:
        writer.remove(["/a.mp4"])
        writer.prune()
    assert asked_times(library.store).keys() == {video_id(2)}


def test_frames_alone_are_committed_where_that_is_asked_for(library: Library) -> None:
    video = tiny_video(1)
    with library.writer() as writer:
        with library.stage(video.video_id, PRINTS, "frames") as writing:
            fill(writing, video)
            record = commit(writer, writing.finish(), source_of("/a.mp4", 1), facts_of(video))
        content = writer.find_content(video.video_id, OTHER_TEXT)
        whole = commit(writer, stage(library, video, OTHER_TEXT), source_of("/a.mp4", 1), facts_of(video))
    assert part_files(library) == {record.frames_part.path, *(part.path for part in whole.parts)}
    assert content is not None and (content.states, content.frames) == (None, record)
    shapes = [(one.state.levels, one.state.tokens, one.state.grid_thw) for one in library.segments(record)]
    assert shapes == [(*state.rows.shape[:2], state.grid_thw) for state in video.states]
    assert library.verify() == []
