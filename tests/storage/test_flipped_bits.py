"""A bit that flips in a part or a table of a library: ``verify`` finds it, or no answer is made of anything else."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from storage import ALL_MODELS, Library, open_library
from storage.schemas import CATALOG, FAILURES, segments_table
from tempo_core.errors import CorruptPart, TempoError
from tests.support.storage_harness import PRINTS, put, source_of, tiny_video

SEGMENTS = segments_table(PRINTS.features)
FOLDERS = ["parts", f"tables/{CATALOG}.lance", f"tables/{SEGMENTS}.lance"]
SEED, FLIPS_PER_FILE = 20261127, 6


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Two videos, compacted as a run leaves them."""
    opened = open_library(str(tmp_path_factory.mktemp("bits") / "library"), create=True)
    with opened.writer() as writer:
        for seed in (1, 2):
            put(opened, writer, f"/{seed}", seed)
        writer.prune(grace_s=0)
    assert opened.verify(grace_s=0) == []
    return opened


def relied_on(library: Library) -> list[Any]:
    """All that answers are made from, read as they read it: without checksums."""
    videos = library.videos(ALL_MODELS)
    hits = library.search(tiny_video(1).features[0], limit=4)
    states = [state.rows.tobytes() for video in videos for state in library.read_states(video)]
    frames = [list(library.read_frames(video)) for video in videos]
    rows = sorted(repr({**row, "checksum": 0}) for row in library.tables.rows(SEGMENTS))
    return [videos, library.segments_of(videos), hits, states, frames, rows]


def is_found(copy: Path) -> bool:
    """Whether ``verify`` tells problems, or ends with one error."""
    try:
        return open_library(str(copy)).verify(grace_s=0) != []
    except TempoError:
        return True


def would_answer_otherwise(copy: Path, before: list[Any]) -> bool:
    """Without a word: an error is no other answer."""
    try:
        return relied_on(open_library(str(copy))) != before
    except TempoError:
        return False


def files(library: Library, folder: str) -> list[str]:
    return sorted(file.path for file in library.store.files(folder) if file.size)


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_flipped_bit_is_found_or_changes_no_answer(folder: str, library: Library, tmp_path: Path) -> None:
    before, draw = relied_on(library), random.Random(SEED)
    copy = tmp_path / "copy"
    unseen = []
    for path in files(library, folder):
        size = Path(library.uri, path).stat().st_size
        for bit in draw.sample(range(8 * size), min(FLIPS_PER_FILE, 8 * size)):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(library.uri, copy)
            flip(copy / path, bit)
            if not is_found(copy) and would_answer_otherwise(copy, before):
                unseen.append((path, bit))
    assert unseen == []


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize("column", ["start_s", "duration_s", "width", "model_id", "indexed_at"])
def test_a_value_of_the_catalog_that_changed_is_found(column: str, library: Library, tmp_path: Path) -> None:
    copy = copied(library, tmp_path)
    value = "'other'" if column == "model_id" else "7"
    copy.tables.ensure(CATALOG).update(where="uri = '/1'", values_sql={column: value})
    (problem,) = copy.verify()
    assert problem.subject == "/1"
    assert problem.reason.startswith("its row in the catalog is not what was written (its checksum differs); `tempo re")


@pytest.mark.parametrize("column", ["start_s", "tag_time_s", "first", "video_start_s"])
def test_a_value_of_a_segment_that_changed_is_found(column: str, library: Library, tmp_path: Path) -> None:
    copy = copied(library, tmp_path)
    copy.tables.ensure(SEGMENTS).update(where="index = 1", values_sql={column: f"{column} + 1"})
    assert_segment_1_changed(copy)


def test_a_feature_that_changed_is_found(library: Library, tmp_path: Path) -> None:
    copy = copied(library, tmp_path)
    vector = tiny_video(5).features[0].tolist()
    copy.tables.ensure(SEGMENTS).update(where="index = 1", values={"vector": vector})
    assert_segment_1_changed(copy)


def assert_segment_1_changed(library: Library) -> None:
    """In both videos."""
    problems = library.verify()
    assert [problem.subject for problem in problems] == ["/1", "/2"]
    reason = "segment 1 is not what was written (its checksum differs); `tempo remove "
    assert all(problem.reason.startswith(reason) for problem in problems)


def emptied(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(("table", "column"), [(CATALOG, "generation"), (SEGMENTS, "generation"), (SEGMENTS, "vector")])
def test_an_index_that_is_damaged_is_found_although_the_rows_are_whole(
    table: str, column: str, library: Library, tmp_path: Path
) -> None:
    copy = copied(library, tmp_path)
    build = copy.tables.build_vector_index if column == "vector" else copy.tables.build_value_index
    build(table, column)
    assert copy.verify() == []
    for path in Path(copy.uri, "tables", f"{table}.lance", "_indices").rglob("*.*"):
        emptied(path)
    problems = open_library(copy.uri).verify()
    assert f"tables/{table}" in {problem.subject for problem in problems}
    assert all(f"{table}.lance" in problem.reason for problem in problems)


def test_a_table_of_failures_that_cannot_be_read_is_found(library: Library, tmp_path: Path) -> None:
    copy = copied(library, tmp_path)
    with copy.writer() as writer:
        writer.record_failure(source_of("/bad", 1), PRINTS.features, "no video stream", "decode")
    for path in Path(copy.uri, "tables", f"{FAILURES}.lance", "data").iterdir():
        emptied(path)
    (problem,) = open_library(copy.uri).verify()
    assert problem.subject == f"tables/{FAILURES}"
    assert problem.reason.startswith(f"it cannot be read: LanceDB failed at {copy.uri}/tables/{FAILURES}.lance: ")


@pytest.mark.parametrize(("written", "changed"), [('"tiny"', '"tinz"'), ('"jpeg_quality": 92', '"jpeg_quality": 90')])
def test_a_value_of_the_manifest_that_changed_is_found(
    written: str, changed: str, library: Library, tmp_path: Path
) -> None:
    manifest = Path(copied(library, tmp_path).uri, "library.json")
    assert written in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(written, changed, 1))
    (problem,) = open_library(str(manifest.parent)).verify()
    assert problem.subject == "library.json"
    assert problem.reason.startswith("it is not what was written (its checksum differs); put the library back")


def test_frames_that_are_no_parquet_any_more_are_one_error(library: Library, tmp_path: Path) -> None:
    copy = copied(library, tmp_path)
    video = copy.videos()[0]
    path = Path(copy.uri, video.frames_part.path)
    path.write_bytes(b"PAR1" + bytes(path.stat().st_size - 12) + b"\x20\0\0\0PAR1")
    with pytest.raises(CorruptPart, match="remove the video and index it again"):
        list(copy.read_frames(video))


def copied(library: Library, folder: Path) -> Library:
    shutil.copytree(library.uri, folder / "copy")
    return open_library(str(folder / "copy"))
