"""A library that somebody else made names a model: nothing is fetched for it unless the user says so."""

from __future__ import annotations

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
