"""Rows of a catalog that somebody else wrote: one clear error that names library and row, and nothing is opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from storage import ALL_MODELS, Library, open_library
from storage.schemas import CATALOG, segments_table
from tempo_core.errors import CorruptPart, LibraryError, SchemaError
from tests.support.storage_harness import PRINTS, SPEC, index, states_part
from tests.support.tempo_cli import tempo

OTHER_ID = "ab" * 32
LEAVES = {
    "absolute": "/etc/passwd",
    "up": "parts/../../secret.parquet",
    "a device": "/dev/zero",
    "a zero byte": "parts/\0",
    "another place": "tables/videos.lance",
    "the manifest": "library.json",
    "another video": f"parts/ab/{OTHER_ID}/states-0123456789abcdef-0123456789abcdef0123.parquet",
    "nothing": "",
}
SPECS = {
    "no JSON": "{",
    "no object": "[]",
    "an unknown key": json.dumps({**asdict(SPEC), "shell": "rm"}),
    "a wrong type": json.dumps({**asdict(SPEC), "name": {"a": 1}}),
    "a wrong choice": json.dumps({**asdict(SPEC), "state_dtype": "object"}),
    "a wrong value": json.dumps({**asdict(SPEC), "frames_per_second": -1}),
    "nested deeply": "[" * 10_000 + "]" * 10_000,
    "nested in an object": '{"name":' * 10_000 + "1" + "}" * 10_000,
    "endless": '"' + "x" * 1_000_000 + '"',
}


@pytest.fixture
def library(library: Library) -> Library:
    index(library, {"/a": 1})
    return library


def alter(library: Library, table: str, **columns: object) -> None:
    library.tables.ensure(table).update(values=columns)


def assert_refused(library: Library, column: str) -> None:
    reason = f"^{library.uri}: the catalog's row of /a is .*{column} is not valid"
    for use in (library.videos, library.status, library.verify):
        with pytest.raises(LibraryError, match=reason):
            use()


@pytest.mark.parametrize("path", LEAVES.values(), ids=LEAVES)
@pytest.mark.parametrize("column", ["frames_path", "states_path"])
def test_a_path_that_is_no_part_of_its_video_is_refused(column: str, path: str, library: Library) -> None:
    alter(library, CATALOG, **{column: path})
    assert_refused(library, column)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_spec_that_is_none_is_refused(spec: str, library: Library) -> None:
    alter(library, CATALOG, spec=spec)
    assert_refused(library, "spec")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("video_id", "../x"),
        ("generation", "no' OR '1'='1"),
        ("states_sha256", "x"),
        ("segments", -1),
        ("duration_s", float("inf")),
    ],
)
def test_a_value_that_no_video_has_is_refused(column: str, value: object, library: Library) -> None:
    alter(library, CATALOG, **{column: value})
    assert_refused(library, column)


def test_a_row_under_a_model_that_none_is_is_refused_where_all_are_read(library: Library) -> None:
    alter(library, CATALOG, features_fingerprint="../../outside")
    assert library.videos() == []
    with pytest.raises(LibraryError, match=r"row of /a is .*features_fingerprint is not valid"):
        library.videos(ALL_MODELS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_id", 1),
        ("fingerprints", {"frames": "../x", "states": "../x", "features": "../x"}),
        ("spec", {"shell": "rm"}),
    ],
)
def test_a_model_that_the_manifest_lists_is_checked_too(key: str, value: object, library: Library) -> None:
    path = Path(library.uri, "library.json")
    manifest = json.loads(path.read_text())
    manifest["models"][0][key] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(SchemaError, match="is no library manifest"):
        open_library(library.uri)


def test_a_command_prints_one_line_for_it(library: Library) -> None:
    alter(library, CATALOG, spec="{")
    for command in ("status", "verify"):
        said = tempo(command, "--library", library.uri, code=1)
        assert said.err.startswith(f"tempo: {library.uri}: the catalog's row of /a is damaged")
        assert said.err.count("\n") == 1


MAKE: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_part_that_is_no_plain_file_is_a_problem_and_not_waited_for(
    make: Callable[[Path], None], library: Library
) -> None:
    (record,) = library.videos()
    for part in record.parts:
        path = Path(library.uri, part.path)
        path.unlink()
        make(path)
    problems = {problem.subject: problem.reason for problem in library.verify()}
    assert "not a plain file" in problems[record.frames_part.path]
    assert "not a plain file" in problems[states_part(record).path]
    with pytest.raises(CorruptPart, match="not a plain file"):
        library.read_states(record)
    with pytest.raises(CorruptPart, match="not a plain file"):
        list(library.read_frames(record))


@pytest.mark.parametrize(
    "columns", [{"state_length": 1 << 60}, {"tokens": 0}, {"row_bytes": -2}, {"state_offset": -1}, {"levels": 1 << 30}]
)
def test_a_segment_that_cannot_be_what_its_row_says_takes_no_memory(columns: dict[str, int], library: Library) -> None:
    alter(library, segments_table(PRINTS.features), **columns)
    (record,) = library.videos()
    with pytest.raises(LibraryError, match="its row is damaged"):
        library.read_states(record)
    assert any("its row is damaged" in problem.reason for problem in library.verify())
