"""Names that would steer a terminal do not reach it: not in errors, JSON, wrong arguments or the log."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from storage import open_library
from storage.schemas import CATALOG
from tests.support.storage_harness import put
from tests.support.tempo_cli import name_model, small_video, tempo

STEERS = "a\x1b]0;owned\x07b\x9bc\u202ed\u2066e\u2028f"
LINE = "x\ntempo: everything is fine"
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    opened = open_library(str(tmp_path / "library"), create=True)
    with opened.writer() as writer:
        put(opened, writer, "/a", 1)
    return tmp_path / "library"


def missing_source(folder: Path) -> list[object]:
    return ["index", folder / STEERS, "--library", folder / "new"]


def line_of_a_list(folder: Path) -> list[object]:
    (folder / "list").write_text(STEERS.replace("\u2028", ""), encoding="utf-8")
    return ["index", f"@{folder / 'list'}", "--library", folder / "new"]


def model_id(folder: Path) -> list[object]:
    name_model(folder / "library", f"{STEERS}/{STEERS}")
    return ["ask", "What?", "--library", folder / "library"]


def part_path(folder: Path) -> list[object]:
    open_library(str(folder / "library")).tables.ensure(CATALOG).update(values={"frames_path": STEERS})
    return ["status", "--library", folder / "library"]


def wrong_argument(folder: Path) -> list[object]:
    return ["status", STEERS, "--library", folder / "library"]


def wrong_option(_: Path) -> list[object]:
    return ["status", f"--{STEERS}"]


def wrong_command(_: Path) -> list[object]:
    return [STEERS]


def base_name(folder: Path) -> list[object]:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps({"mm_vision_tower_aux_list": [STEERS]}))
    return ["ask", "What?", "--library", folder / "library", "--model", folder / "model"]


ERRORS = [
    missing_source, line_of_a_list, model_id, part_path, wrong_argument, wrong_option, wrong_command,
    base_name,
]  # fmt: skip


@pytest.mark.parametrize("arguments", ERRORS)
@pytest.mark.usefixtures("library")
def test_an_error_steers_no_terminal(arguments: Callable[[Path], list[object]], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments(tmp_path)], catch_exceptions=False)
    assert result.exit_code != 0
    assert "owned" in " ".join(result.stderr.split())
    assert HARMFUL.findall(result.stderr) == []


def test_an_error_is_one_line_whatever_is_named_in_it(tmp_path: Path) -> None:
    said = tempo("index", tmp_path / LINE, "--library", tmp_path / "new", code=1)
    assert said.err.count("\n") == 1


def test_json_is_ascii(tmp_path: Path) -> None:
    library = tmp_path / "library"
    small_video(tmp_path / f"{STEERS} 日本.mp4".replace("/", "-"))
    said = tempo("index", tmp_path, "--exclude", "library/", "--library", library, "--json")
    assert said.out.isascii()
    assert [record for record in said.json if STEERS in record.get("uri", "")]
    assert tempo("status", "--library", library, "--json").out.isascii()


def test_the_log_steers_no_terminal_and_forges_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    script = f"import logging; from flows.environment import prepare; prepare(); logging.warning({STEERS + LINE!r})"
    subprocess.run([sys.executable, "-c", script], check=True)
    err = capfd.readouterr().err
    assert err.startswith("WARNING root: a")
    assert err.count("\n") == 1
    assert HARMFUL.findall(err.rstrip("\n")) == []
