"""The catalog: who sees what and when, copies, changes, models, names."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from storage import Library, open_library
from storage.generations import new_generation
from storage.schemas import CATALOG
from tempo_core.errors import LibraryError, LibraryNotFound, SchemaError, UsageError
from tempo_core.spec import IndexSpec
from tests.support.storage_harness import (
    FEATURES,
    PRINTS,
    SPEC,
    commit,
    contents,
    cut_short,
    facts_of,
    fill,
    index,
    part_files,
    put,
    source_of,
    stage,
    tiny_video,
    uris,
    video_id,
)


def test_a_place_without_a_library_is_told(tmp_path: Path) -> None:
    with pytest.raises(LibraryNotFound, match=r"no library at .*nowhere"):
        open_library(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_of_other_files_does_not_become_a_library(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").touch()
    with pytest.raises(UsageError, match=r"holiday\.mp4"):
        open_library(str(tmp_path), create=True)


def test_creating_again_changes_nothing(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    before = contents(library)
    assert contents(open_library(library.uri, create=True)) == before


def test_a_library_of_a_newer_schema_is_refused(library: Library) -> None:
    manifest = Path(library.uri, "library.json")
    manifest.write_text(manifest.read_text().replace('"schema": 5', '"schema": 99'))
    with pytest.raises(SchemaError, match="schema 99, this program knows 5"):
        open_library(library.uri, create=True)


def test_a_broken_manifest_is_one_clear_error(library: Library) -> None:
    Path(library.uri, "library.json").write_text("{")
    with pytest.raises(SchemaError, match=r"library\.json is no library manifest"):
        open_library(library.uri)


def test_what_is_committed_reads_back_equal(library: Library) -> None:
    video = tiny_video(5)
    with library.writer() as writer:
        record = commit(writer, stage(library, video), source_of("/it's; a -- 'name'.mp4", 5), facts_of(video))
    assert library.videos() == [record]
    assert [segment.span for segment in library.segments(record)] == list(video.spans)
    assert record.title == "it's; a -- 'name'.mp4"


def test_a_video_is_invisible_until_its_commit(library: Library) -> None:
    video = tiny_video(1)
    content = stage(library, video)
    assert library.videos() == []
    assert library.search(video.features[0], PRINTS.features) == []
    with library.writer() as writer:
        commit(writer, content, source_of("/a.mp4", 1), facts_of(video))
    assert uris(library) == ["/a.mp4"]


def test_a_library_can_be_moved(library: Library, tmp_path: Path) -> None:
    index(library, {"/a.mp4": 1})
    shutil.move(library.uri, tmp_path / "elsewhere")
    moved = open_library(str(tmp_path / "elsewhere"))
    assert moved.read_states(moved.videos()[0], verify=True)
    assert moved.verify() == []


def test_a_copy_is_a_row_and_nothing_else(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    before = part_files(library)
    assert index(library, {"/a.mp4": 1, "/b.mp4": 1}) == {"/a.mp4": "unchanged", "/b.mp4": "duplicate"}
    assert part_files(library) == before
    first, second = library.videos()
    assert (first.generation, first.video_id) == (second.generation, second.video_id)


def test_removing_one_copy_leaves_the_other(library: Library) -> None:
    index(library, {"/a.mp4": 1, "/b.mp4": 1})
    with library.writer() as writer:
        writer.remove(["/a.mp4"])
        writer.prune(grace_s=0)
    assert uris(library) == ["/b.mp4"]
    assert library.verify() == []
    assert len(library.read_states(library.videos()[0], verify=True)) == 3


def test_removing_what_is_not_there_changes_nothing(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    with library.writer() as writer, pytest.raises(UsageError, match=r"/x\.mp4 is not in"):
        writer.remove(["/a.mp4", "/x.mp4"])
    assert uris(library) == ["/a.mp4"]


def test_changed_content_replaces_the_row(library: Library) -> None:
    index(library, {"/a.mp4": 1, "/b.mp4": 1})
    index(library, {"/a.mp4": 2, "/b.mp4": 1})
    assert {record.uri: record.video_id for record in library.videos()} == {
        "/a.mp4": video_id(2), "/b.mp4": video_id(1)
    }  # fmt: skip


def test_copies_move_together_to_a_new_generation(library: Library) -> None:
    index(library, {"/a.mp4": 1, "/b.mp4": 1})
    catalog = library.tables.ensure(CATALOG)
    version = catalog.version
    with library.writer() as writer:
        record = put(library, writer, "/a.mp4", 1)
    assert {one.generation for one in library.videos()} == {record.generation}
    assert catalog.version == version + 1, "in one commit"
    assert library.verify() == []


def test_what_was_replaced_stays_readable_for_the_grace_period(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    old = library.videos()[0]
    index(library, {"/a.mp4": 2})
    with library.writer() as writer:
        writer.prune(grace_s=3600)
    assert library.read_states(old, verify=True)
    with library.writer() as writer:
        assert writer.prune(grace_s=0) > 0
    assert part_files(library) == {part.path for one in library.videos() for part in one.parts}
    with pytest.raises(LibraryError, match="0 of 3 segments"):
        library.segments(old)


def test_an_old_generation_given_up_just_now_is_not_old(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its age counts from when readers could last have seen it in the catalog."""
    monkeypatch.setattr("storage.generations.time.time", lambda: 1_000_000_000.0)
    generation = new_generation()
    monkeypatch.undo()
    monkeypatch.setattr("storage.video_writer.new_generation", lambda: generation)
    index(library, {"/a.mp4": 1})
    monkeypatch.undo()
    old = library.videos()[0]
    with library.writer() as writer:
        writer.remove(["/a.mp4"])
        writer.prune(grace_s=60)
    assert library.read_states(old, verify=True)


def test_an_uncommitted_generation_is_swept_once_it_is_old(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    cut_short(library, stage(library, tiny_video(2)))
    assert library.verify() == []
    assert {problem.subject.split("/")[0] for problem in library.verify(grace_s=0)} == {
        "parts",
        f"segments_{PRINTS.features}",
    }
    with library.writer() as writer:
        writer.prune(grace_s=3600)
        assert len(library.verify(grace_s=0)) == 3
        writer.prune(grace_s=0)
    assert library.verify(grace_s=0) == []


def test_a_video_being_written_outlives_a_sweep_within_the_grace_period(library: Library) -> None:
    video = tiny_video(1)
    with library.writer() as writer, library.stage(video.video_id, PRINTS) as writing:
        fill(writing, video)
        writer.prune(grace_s=60)
        staged = writing.finish()
        writer.prune(grace_s=60)
        commit(writer, staged, source_of("/a.mp4", 1), facts_of(video))
    assert library.verify(grace_s=0) == []
    assert len(library.read_states(library.videos()[0], verify=True)) == len(video.spans)


def test_failures_are_counted_and_forgotten_with_success(library: Library) -> None:
    for _ in range(2):
        with library.writer() as writer:
            writer.record_failure(source_of("/a.mp4", 1), PRINTS.features, "no video stream", "decode")
    (failure,) = library.failures(PRINTS.features)
    assert (failure.source, failure.reason, failure.step, failure.attempts) == (
        source_of("/a.mp4", 1), "no video stream", "decode", 2
    )  # fmt: skip
    index(library, {"/a.mp4": 2})
    assert library.failures() == []


def test_counts_must_agree_before_anything_is_published(library: Library) -> None:
    video = tiny_video(1)
    with library.stage(video.video_id, PRINTS) as writing:
        fill(writing, video)
        writing.add_features(video.features[:2], video.spans[:2])
        with pytest.raises(ValueError, match="3 states, 2 spans"):
            writing.finish()
    assert part_files(library) == set()


def test_status_counts_contents_once_and_bytes_by_kind(library: Library) -> None:
    index(library, {"/a.mp4": 1, "/b.mp4": 1, "/c.mp4": 2, "/d.mp4": -1})
    status = library.status()
    (model,) = status.models
    assert (model.sources, model.videos, model.segments, model.failures, model.is_default) == (4 - 1, 2, 6, 1, True)
    assert model.hours == pytest.approx(10 / 3600)
    sizes = {file.path: file.size for file in library.store.files("parts")}
    assert status.frames_bytes + status.states_bytes == sum(sizes.values())
    assert status.unreferenced_bytes == 0
    with library.writer() as writer:
        writer.remove(["/c.mp4"])
    assert library.status().unreferenced_bytes > 0


def test_verify_finds_a_missing_feature(library: Library) -> None:
    video = tiny_video(1)
    video.features[1] = 0
    with library.writer() as writer:
        commit(writer, stage(library, video), source_of("/a.mp4", 1), facts_of(video))
    (problem,) = library.verify()
    assert "segment 1 has no usable feature" in problem.reason


def test_an_index_spec_survives_the_catalog(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    assert library.videos()[0].facts.spec == SPEC
    assert isinstance(library.videos()[0].facts.spec, IndexSpec)


def test_features_are_kept_as_they_were(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    rows = library.tables.rows(f"segments_{PRINTS.features}")
    kept = np.asarray([row["vector"] for row in sorted(rows, key=lambda row: int(row["index"]))], np.float32)
    assert kept.shape == (3, FEATURES)
    np.testing.assert_array_equal(kept, tiny_video(1).features)


def test_whoever_may_read_new_files_may_read_the_library(tmp_path: Path) -> None:
    (plain := tmp_path / "plain").touch()
    index(open_library(str(tmp_path / "library"), create=True), {"/a.mp4": 1})
    modes = {file: file.stat().st_mode for file in (tmp_path / "library").rglob("*") if file.is_file()}
    assert {file.name for file, mode in modes.items() if mode != plain.stat().st_mode} == set()
