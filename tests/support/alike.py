"""Two libraries compared: everything exactly, but for the last bits of what the model computed.

Which segments share a batch is chance in a run of several workers, and a batch's size may move the last bit of a sum.
bfloat16 keeps 8 bits, so a rounding that tips over is 2^-8 of a state; errors of two layers add up to twice that.
States of two videos of these tests are 2^-4 and more apart.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from storage import ALL_MODELS, Library, VideoRecord, open_library
from storage.filters import quoted
from storage.schemas import segments_table
from tests.support.storage_harness import pruned, states_part

RELATIVE, ABSOLUTE, OF_A_FEATURE = 2**-7, 2**-9, 1e-2
OF_A_RUN = {"generation", "state_checksum", "vector", "checksum"}
EMPTY_OR_NOT = {"retired", "failures"}  # tables that are made when first needed; ``failures`` are compared as such


def assert_alike(path: Path | str, undisturbed: Path | str) -> None:
    """``path`` holds what ``undisturbed`` holds, and nothing else once both are swept."""
    mine, expected = (pruned(open_library(str(one))) for one in (path, undisturbed))
    found, wanted = _exact(mine), _exact(expected)
    for name, value in wanted.items():
        assert found[name] == value, f"{name}:\n{found[name]!r:.4000}\nnot\n{value!r:.4000}"
    for one, other in zip(_contents(mine), _contents(expected), strict=True):
        for state, due in zip(mine.read_states(one, verify=True), expected.read_states(other), strict=True):
            assert (state.grid_thw, state.pair_times_s) == (due.grid_thw, due.pair_times_s)
            np.testing.assert_allclose(state.visual, due.visual, RELATIVE, ABSOLUTE, err_msg=one.uri)
        for row, right in zip(_rows(mine, one), _rows(expected, other), strict=True):
            np.testing.assert_allclose(row["vector"], right["vector"], rtol=0, atol=OF_A_FEATURE, err_msg=one.uri)


def _exact(library: Library) -> dict[str, Any]:
    return {
        "catalog": {record.uri: _lasting(record) for record in library.videos(ALL_MODELS)},
        "failures": {replace(one, failed_at=0.0, attempts=0) for one in library.failures()},
        "segments": [[_without_run(row) for row in _rows(library, record)] for record in _contents(library)],
        "frames": [library.store.read_bytes(record.frames_part.path) for record in _contents(library)],
        "files": len(list(library.store.files("parts"))),
        "rows": {name: library.tables.count(name) for name in library.tables.names() if name not in EMPTY_OR_NOT},
    }


def _contents(library: Library) -> list[VideoRecord]:
    """One record of each content, in an order that both have."""
    return sorted({record.video_id: record for record in library.videos(ALL_MODELS)}.values(), key=lambda one: one.uri)


def _lasting(record: VideoRecord) -> VideoRecord:
    frames = replace(record.frames_part, path="")
    states = replace(states_part(record), path="", sha256="")
    return replace(record, generation="", indexed_at=0.0, frames_part=frames, states_part=states)


def _rows(library: Library, record: VideoRecord) -> list[dict[str, Any]]:
    where = f"generation = {quoted(record.generation)}"
    rows = library.tables.rows(segments_table(record.fingerprints.features), where)
    return sorted(rows, key=lambda row: int(row["index"]))


def _without_run(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in OF_A_RUN}
