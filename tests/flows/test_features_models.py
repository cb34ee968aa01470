"""``--features``: an embedding model on the vision tower of the library's model, from the outside.

nano-vl encodes a video once; two embedding models on its tower make features of the same states, one after the other.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from flows.embedded import embedded_folder
from storage import ALL_MODELS, Library, open_library
from tempo_core import load_checkpoint, with_features
from tempo_core.router import Router
from tests.support.embedding_model import embedding_model
from tests.support.tempo_cli import counting_ffmpeg, index, small_video, statuses, tempo

NANO_VL = embedded_folder().with_name("nano-vl")
QUESTION = "What moves?"
NORM = "model.language_model.norm.weight"
WHITE_PICTURE = 16  # patches of what a model is tested with when it is loaded


@pytest.fixture(scope="module")
def siblings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two embedding models on nano-vl's tower."""
    folder = tmp_path_factory.mktemp("siblings")
    return [embedding_model(NANO_VL, folder / f"embedding-{seed}", seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, siblings: list[Path]) -> Path:
    """A library of two videos with features by the first sibling; copy it before it is changed."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "archive").mkdir()
    for name, seconds in (("talk.mp4", 20), ("yard.mp4", 9)):
        small_video(folder / "archive" / name, seconds=seconds)
    index(folder / "library", folder / "archive", "--model", NANO_VL, "--features", siblings[0])
    return folder / "library"


@pytest.fixture
def copy(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "copy"))


def models(library: Path) -> list[tuple[str, str | None]]:
    """Names of the library's models and of those that made their features, the default first."""
    return [
        (Path(one.model_id).name, one.features_model and Path(one.features_model).name)
        for one in opened(library).models()
    ]


def opened(library: Path) -> Library:
    return open_library(str(library))


def test_three_checkpoints_on_one_tower_decode_and_encode_a_video_once(
    tmp_path: Path, archive: Path, library: Path, siblings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ffmpeg, decodes = counting_ffmpeg(tmp_path)
    monkeypatch.setenv("TEMPO_FFMPEG", ffmpeg)
    encoded: list[int] = []
    encode = Router.encode_on_device

    def counting(router: Router, segments: list[Any], *given: Any, **named: Any) -> Any:
        encoded.extend(len(segment.patches) for segment in segments if len(segment.patches) > WHITE_PICTURE)
        return encode(router, segments, *given, **named)

    monkeypatch.setattr(Router, "encode_on_device", counting)
    small_video(archive / "talk.mp4", seconds=9)
    index(library, archive, "--model", NANO_VL)
    after_first = (decodes(), len(encoded))
    assert min(after_first) > 0
    for sibling in siblings:
        assert statuses(index(library, archive, "--features", sibling)) == {"talk.mp4": "indexed"}
    assert (decodes(), len(encoded)) == after_first
    records = opened(library).videos(ALL_MODELS)
    assert len({record.fingerprints.features for record in records}) == 3
    assert len({(record.fingerprints.states, record.states_part) for record in records}) == 1
    assert models(library) == [("nano-vl", "embedding-2"), ("nano-vl", None), ("nano-vl", "embedding-1")]
    assert tempo("verify", "--library", library, "--json").json == [{"ok": True, "problems": []}]


def test_a_question_is_searched_by_the_model_that_made_the_features(searched: Path, siblings: list[Path]) -> None:
    library = opened(searched)
    featurer = with_features(load_checkpoint(NANO_VL), siblings[0]).featurer
    asked = featurer.question_feature(QUESTION)
    likeness = [
        float(score) for video in library.videos() for score in featurer.features(library.read_states(video)) @ asked
    ]
    hits = tempo("search", QUESTION, "--library", searched, "--json").json
    np.testing.assert_allclose([hit["score"] for hit in hits], sorted(likeness, reverse=True), atol=1e-5)


def test_what_the_library_remembers_is_used_where_nothing_is_named(copy: Path, archive: Path) -> None:
    small_video(archive / "late.mp4", seconds=3)
    assert statuses(index(copy, archive)) == {"late.mp4": "indexed"}
    assert models(copy) == [("nano-vl", "embedding-1")]
    (said,) = tempo("ask", QUESTION, "--library", copy, "--json").json
    assert {Path(segment["uri"]).name for segment in said["segments"]} == {"talk.mp4", "yard.mp4", "late.mp4"}


@pytest.mark.parametrize("named", [[], ["--model", NANO_VL]], ids=["nothing named", "model named"])
def test_an_answer_needs_no_option(searched: Path, named: list[object]) -> None:
    (said,) = tempo("ask", QUESTION, "--library", searched, *named, "--json").json
    assert said["fingerprint"] == opened(searched).default_fingerprint()


def test_named_videos_are_asked_without_loading_the_embedding_model(
    copy: Path, siblings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it was loaded")

    monkeypatch.setattr("tempo_core.features_checkpoint.load_featurer", refuse)
    assert tempo("ask", QUESTION, "--library", copy, "--video", "yard.mp4", "--json").json
    with pytest.raises(AssertionError, match="it was loaded"):
        tempo("search", QUESTION, "--library", copy)


def test_the_model_s_own_features_are_made_where_it_is_named_for_them(copy: Path, archive: Path) -> None:
    small_video(archive / "late.mp4", seconds=3)
    index(copy, archive, "--features", NANO_VL)
    assert models(copy) == [("nano-vl", "embedding-1"), ("nano-vl", None)]  # which has one video of three
    assert tempo("search", QUESTION, "--library", copy, "--features", NANO_VL, "--json").json


def test_the_status_tells_who_made_the_features(searched: Path, siblings: list[Path]) -> None:
    assert f"{NANO_VL}, features by {siblings[0]}, spec paper" in tempo("status", "--library", searched).out
    (said,) = tempo("status", "--library", searched, "--json").json
    assert said["models"][0]["features_model"] == str(siblings[0])


def test_a_library_that_was_not_indexed_with_it_says_what_to_type(searched: Path, siblings: list[Path]) -> None:
    said = tempo("search", QUESTION, "--library", searched, "--features", siblings[1], code=1)
    assert f"`tempo index SOURCE --model {NANO_VL} --features {siblings[1]}`" in said.err


def test_another_vision_tower_is_one_error_and_nothing_is_indexed(tmp_path: Path, archive: Path, library: Path) -> None:
    tower = embedding_model(NANO_VL, tmp_path / "tower", changed="model.visual.")
    small_video(archive / "talk.mp4")
    said = tempo("index", archive, "--library", library, "--model", NANO_VL, "--features", tower, code=1)
    assert f"{tower} cannot make features of what {NANO_VL} encodes" in said.err
    assert not library.exists()


def test_an_embedding_model_that_is_damaged_ends_the_run_and_blames_no_video(
    tmp_path: Path, archive: Path, library: Path
) -> None:
    damaged = embedding_model(NANO_VL, tmp_path / "damaged")
    for weights in damaged.glob("*.safetensors"):
        tensors = load_file(weights)
        if NORM in tensors:
            tensors[NORM] *= float("nan")
            save_file(tensors, weights, metadata={"format": "pt"})
    small_video(archive / "talk.mp4")
    said = tempo("index", archive, "--library", library, "--model", NANO_VL, "--features", damaged, code=1)
    assert f"{damaged}: the model computes numbers that are not finite" in said.err
    assert opened(library).failures() == []


def test_a_folder_with_an_embedding_model_is_told_by_the_doctor(siblings: list[Path]) -> None:
    (found,) = tempo("doctor", "--model", siblings[0], "--json", code=1).json
    (told,) = (check["found"] for check in found["checks"] if check["name"] == "model")
    assert told.startswith(f"{siblings[0]} is an embedding model")
    assert "give it as --features" in told
