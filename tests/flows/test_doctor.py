"""``tempo doctor``: what is there, what is missing, how to get it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import flows.terminal.doctor
from tests.support.altered_checkpoints import edit_config
from tests.support.golden_cases import BASE, TEMPO
from tests.support.programs import program
from tests.support.tempo_cli import Record, tempo


def checks(code: int = 0) -> dict[str, Record]:
    (found,) = tempo("doctor", "--json", code=code).json
    assert found["ok"] == (code == 0)
    return {check["name"]: check for check in found["checks"]}


def test_everything_needed_is_found_here() -> None:
    found = checks()
    assert {"python", "torch", "device", "transformers", "lancedb", "pyarrow", "s3fs", "ffmpeg"} <= found.keys()
    assert {"decoders", "hardware decoders", "memory", "cache", "scratch", "model"} <= found.keys()
    assert all(check.keys() == {"name", "ok", "found", "needed", "advice"} for check in found.values())
    assert all(check["ok"] for check in found.values() if check["needed"])


def test_readable_output_says_so() -> None:
    shown = tempo("doctor").out
    assert "Everything needed is here." in shown
    assert "ffmpeg version" in shown


def test_a_missing_ffmpeg_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPO_FFMPEG", str(tmp_path / "nope"))
    found = checks(code=1)["ffmpeg"]
    assert not found["ok"]
    assert "nope" in found["found"]
    assert "imageio-ffmpeg" in found["advice"]
    assert "Something needed is missing" in tempo("doctor", code=1).out


def test_an_ffmpeg_that_does_not_run_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = program(tmp_path / "ffmpeg", "exit 1")
    monkeypatch.setenv("TEMPO_FFMPEG", str(broken))
    assert not checks(code=1)["ffmpeg"]["ok"]


def test_a_missing_package_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(flows.terminal.doctor._PACKAGES, "a-package-that-is-not-there", "testing")
    found = checks(code=1)["a-package-that-is-not-there"]
    assert found["advice"] == "pip install a-package-that-is-not-there  (testing)"


def test_a_cache_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "XDG_CACHE_HOME" in checks()["cache"]["advice"]


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.terminal.doctor.cache_folder", lambda: None)
    assert checks()["cache"]["ok"] is False


def test_a_package_without_its_model_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("flows.embedded.files", lambda _: tmp_path)
    assert "install the package again" in checks(code=1)["model"]["found"]


def test_the_model_s_conditions_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "its own small world" in checks()["model"]["advice"]
    assert "room for it" in checks()


def test_a_model_that_is_not_here_is_said_with_what_fetches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPO_MODEL", "Qwen/Qwen3-VL-2B-Instruct")
    assert checks()["model"]["advice"] == "hf download Qwen/Qwen3-VL-2B-Instruct"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.parametrize(("folder", "kind"), [(BASE, "a stock Qwen3-VL"), (TEMPO, "a Tempo checkpoint")])
def test_a_folder_is_told_by_its_kind_and_size(no_gpu: None, folder: Path, kind: str) -> None:
    (found,) = tempo("doctor", "--model", folder, "--json").json
    told = {check["name"]: check["found"] for check in found["checks"]}
    assert f"{folder}: {kind}" in told["model"]
    assert "of memory, in float32" in told["room for it"]


def test_a_model_that_does_not_fit_is_said(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.terminal.doctor.memory_bytes", lambda: 10_000)
    assert "smaller model" in checks()["room for it"]["advice"]


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_a_model_lacks_is_named(missing: str, tmp_path: Path) -> None:
    folder = shutil.copytree(BASE, tmp_path / "model")
    (folder / missing).unlink()
    (folder / "vocab.json").unlink()
    (found,) = tempo("doctor", "--model", folder, "--json", code=1).json
    (told,) = (check for check in found["checks"] if check["name"] == "model")
    assert missing in told["found"]


def test_a_base_that_is_not_here_is_said_with_what_fetches_it(tmp_path: Path) -> None:
    folder = shutil.copytree(TEMPO, tmp_path / "tempo")
    edit_config(folder, mm_vision_tower_aux_list=["Qwen/Qwen3-VL-2B-Instruct"])
    (found,) = tempo("doctor", "--model", folder, "--json").json
    assert next(check["advice"] for check in found["checks"] if check["name"] == "model") == (
        "hf download Qwen/Qwen3-VL-2B-Instruct"
    )
