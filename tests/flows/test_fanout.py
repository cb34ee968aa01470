"""A whole archive fanned out on Ray: every state is its own video's, whatever shared its batch."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from flows.reporter import Reporter
from flows.request import IndexRequest
from flows.result import IndexResult
from flows.run.indexing import IndexRun
from storage import Library, VideoRecord, open_library
from storage.schemas import segments_table
from tempo_core.values import FloatArray
from tests.support.tempo_cli import small_video

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SIZES = [(96, 64), (64, 96), (128, 64)]
SECONDS = [1, 2, 5, 9]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 videos of three shapes, a copy of one, and a file that is none."""
    folder = tmp_path_factory.mktemp("archive")
    for number, (seconds, size) in enumerate(product(SECONDS, SIZES)):
        small_video(folder / f"{number:02}.mp4", seconds=seconds, size=size, rate=str(5 + number))
    shutil.copy(folder / "05.mp4", folder / "copy.mp4")
    (folder / "none.mp4").write_text("no video")
    return folder


def run(archive: Path, library: Path, ray: str) -> dict[str, IndexResult]:
    request = IndexRequest(sources=[str(archive)], library=str(library), settle_s=0, ray=ray)
    report = IndexRun(request, Reporter()).run()
    return {Path(result.uri).name: result for result in report.results}


@pytest.fixture(scope="module")
def one_by_one(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = tmp_path_factory.mktemp("one") / "library"
    run(archive, library, ray="off")
    return open_library(str(library))


@pytest.fixture(scope="module")
def fanned_out(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Library, dict[str, IndexResult]]:
    library = tmp_path_factory.mktemp("many") / "library"
    results = run(archive, library, ray="local")
    return open_library(str(library)), results


def states(library: Library, record: VideoRecord) -> list[FloatArray]:
    return [state.visual for state in library.read_states(record, verify=True)]


def test_each_file_has_its_result(fanned_out: tuple[Library, dict[str, IndexResult]]) -> None:
    _, results = fanned_out
    statuses = {name: result.status for name, result in results.items()}
    twins = {statuses.pop("05.mp4"), statuses.pop("copy.mp4")}
    assert twins == {"indexed", "duplicate"}
    assert statuses.pop("none.mp4") == "failed"
    assert set(statuses.values()) == {"indexed"}


def test_the_catalog_is_that_of_a_run_in_one_process(
    one_by_one: Library, fanned_out: tuple[Library, dict[str, IndexResult]]
) -> None:
    library, _ = fanned_out
    facts = [
        [
            (one.source, one.video_id, one.fingerprints, one.facts, one.frames_part.sha256, one.segment_count)
            for one in found
        ]
        for found in (library.videos(), one_by_one.videos())
    ]
    assert facts[0] == facts[1]
    assert [one.reason for one in library.failures()] == [one.reason for one in one_by_one.failures()]
    assert library.verify() == []


def test_every_state_is_its_own_video_s(
    one_by_one: Library, fanned_out: tuple[Library, dict[str, IndexResult]]
) -> None:
    """bfloat16 keeps 8 bits: a rounding that tips over is 2^-8 of a value; another video's state is far from it."""
    library, _ = fanned_out
    for mine, alone in zip(library.videos(), one_by_one.videos(), strict=True):
        for state, expected in zip(states(library, mine), states(one_by_one, alone), strict=True):
            np.testing.assert_allclose(state, expected, rtol=2**-7, atol=2**-9, err_msg=mine.uri)
    first, other = (states(library, record)[0] for record in library.videos()[:4:3])  # of one shape
    assert first.shape == other.shape
    assert np.abs(first - other).max() > 2**-4


def test_the_features_are_each_segment_s_own(
    one_by_one: Library, fanned_out: tuple[Library, dict[str, IndexResult]]
) -> None:
    found, alone = (features(library) for library in (fanned_out[0], one_by_one))
    assert found.keys() == alone.keys()
    for key, vector in alone.items():
        np.testing.assert_allclose(found[key], vector, rtol=0, atol=1e-2, err_msg=str(key))


def features(library: Library) -> dict[tuple[str, int], FloatArray]:
    rows = library.tables.rows(segments_table(str(library.default_fingerprint())))
    return {(row["video_id"], row["index"]): np.asarray(row["vector"], np.float32) for row in rows}
