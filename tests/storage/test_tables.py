"""Tables whose making was cut short, which are no tables yet, and two writers of one table at once."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pytest

from storage import Library, open_library
from storage.schemas import CATALOG, FAILURES, RETIRED, segments_table
from tempo_core.errors import LibraryError
from tests.support.storage_harness import PRINTS, index


@pytest.mark.parametrize("left", ["", "_versions", "_transactions"])
@pytest.mark.parametrize("name", [CATALOG, FAILURES, RETIRED, segments_table(PRINTS.features)])
def test_a_table_cut_short_while_it_was_made_is_made_again(tmp_path: Path, name: str, left: str) -> None:
    open_library(str(tmp_path), create=True)
    (tmp_path / "tables" / f"{name}.lance" / left).mkdir(parents=True)
    assert usable(open_library(str(tmp_path))) == []
    index(library := open_library(str(tmp_path)), {"/a.mp4": 1})
    with library.writer() as writer:
        writer.remove(["/a.mp4"])
    index(library, {"/a.mp4": 1})
    assert usable(library) == ["/a.mp4"]


def usable(library: Library) -> list[str]:
    """The videos, once everything that reads or sweeps the tables has run."""
    assert library.failures() == []
    assert library.verify() == []
    library.status()
    with library.writer() as writer:
        writer.prune()
    return [record.uri for record in library.videos()]


def test_a_lost_catalog_is_told_and_costs_no_part(tmp_path: Path) -> None:
    index(open_library(str(tmp_path), create=True), {"/a.mp4": 1})
    shutil.rmtree(tmp_path / "tables")
    library = open_library(str(tmp_path))
    parts = sorted((tmp_path / "parts").rglob("*.parquet"))
    assert [problem.subject for problem in library.verify()] == ["tables/videos"]
    with library.writer() as writer, pytest.raises(LibraryError, match="Put it back"):
        writer.prune(grace_s=0)
    assert sorted((tmp_path / "parts").rglob("*.parquet")) == parts


def test_a_library_whose_videos_were_all_removed_has_lost_nothing(tmp_path: Path) -> None:
    index(library := open_library(str(tmp_path), create=True), {"/a.mp4": 1})
    with library.writer() as writer:
        writer.remove(["/a.mp4"])
        assert writer.prune(grace_s=0) > 0
    assert library.verify(grace_s=0) == []


def test_a_commit_waits_until_the_one_before_it_is_sure(tmp_path: Path) -> None:
    """Else undoing one that a full disk cut short would undo the next one with it."""
    index(library := open_library(str(tmp_path), create=True), {"/a.mp4": 1})
    name, other = segments_table(PRINTS.features), open_library(str(tmp_path))
    table = library.tables.open(name)
    assert table is not None
    rows = table.to_arrow()
    with ThreadPoolExecutor(1) as threads:
        with library.store.commit_lock():
            adding = threads.submit(other.tables.add, name, rows)
            with pytest.raises(TimeoutError):
                adding.result(timeout=0.5)
            assert library.tables.count(name) == len(rows)
        adding.result(timeout=60)
    assert library.tables.count(name) == 2 * len(rows)


def _merge_the_same_keys(uri: str, row: dict[str, Any], writer: str, both_are_here: threading.Barrier) -> None:
    table = lancedb.connect(uri).open_table(CATALOG)
    for turn in range(4):
        rows = [row | {"key": f"{turn}-{number}", "generation": f"{writer}-{turn}-{number}"} for number in range(20)]
        data = pa.Table.from_pylist(rows, schema=table.schema)
        both_are_here.wait()
        table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(data)


def test_two_writers_of_a_catalog_indexed_by_generation_commit_no_key_twice(tmp_path: Path) -> None:
    """Past the commit lock, as on S3. With an index on the key they would."""
    index(library := open_library(str(tmp_path / "library"), create=True), {"/a.mp4": 1})
    tables, (row,), both_are_here = library.tables, library.tables.rows(CATALOG), threading.Barrier(2)
    tables.build_value_index(CATALOG, "generation")
    with ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(_merge_the_same_keys, tables.uri, row, name, both_are_here) for name in "ab"]
        for writer in writers:
            writer.result()
    keys = [merged["key"] for merged in tables.rows(CATALOG)]
    assert len(keys) == len(set(keys)) == 81
