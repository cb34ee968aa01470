"""A library that somebody else made names a model: nothing is fetched for it unless the user says so."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest

from tests.support.tempo_cli import index, name_model, small_video, tempo

ATTACKER = "attacker/model"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    index(tmp_path / "library", small_video(tmp_path / "talk.mp4"))
    name_model(tmp_path / "library", ATTACKER)
    return tmp_path / "library"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that the hub was asked for."""
    asked = []

    def snapshot_download(hub_id: str, local_files_only: bool = False, **_: object) -> str:
        if not local_files_only:
            asked.append(hub_id)
        raise FileNotFoundError("it is not in the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize("command", [("ask", "What?"), ("search", "What?"), ("index", "."), ("index", ".", "--plan")])
def test_what_only_a_library_names_is_not_fetched(
    command: tuple[str, ...], library: Path, fetched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    said = tempo(*command, "--library", library, code=2)
    assert f"give --model {ATTACKER} (or TEMPO_MODEL)" in said.err
    assert fetched == []


def test_what_the_user_names_is_fetched(library: Path, fetched: list[str]) -> None:
    tempo("ask", "What?", "--library", library, "--model", ATTACKER, code=1)
    assert fetched == [ATTACKER]


@pytest.fixture
def searched(library: Path) -> Path:
    """One that names a features model beside a model that is here."""
    name_model(library, "embedded")
    manifest = library / "library.json"
    listed = json.loads(manifest.read_text())
    listed["models"] = [model | {"features_model": ATTACKER} for model in listed["models"]]
    manifest.write_text(json.dumps(listed))
    return library


@pytest.mark.parametrize("command", [("ask", "What?"), ("search", "What?"), ("index", "."), ("index", ".", "--plan")])
def test_a_features_model_that_only_a_library_names_is_not_fetched(
    command: tuple[str, ...], searched: Path, fetched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    said = tempo(*command, "--library", searched, code=2)
    assert f"the library's features model is {ATTACKER}" in said.err
    assert f"give --features {ATTACKER} (or TEMPO_FEATURES)" in said.err
    assert fetched == []


def test_a_features_model_that_the_user_names_is_fetched_and_the_library_s_model_is_not(
    library: Path, searched: Path, fetched: list[str]
) -> None:
    tempo("ask", "What?", "--library", searched, "--features", "owner/embedding", code=1)
    assert fetched == ["owner/embedding"]
    name_model(library, ATTACKER)
    tempo("ask", "What?", "--library", searched, "--features", "owner/embedding", code=2)
    assert fetched == ["owner/embedding"]
