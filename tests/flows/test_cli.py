"""``tempo`` from outside: help, options, errors, exit codes, what is on which stream, what is loaded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli import app
from tests.support import ROOT
from tests.support.tempo_cli import ended, index, small_video, start, start_tempo, tempo

OPTIONS = {
    "index": {
        *("--library", "--model", "--spec", "--plan", "--retry-failed", "--until", "--max-hours", "--json"),
        *("--include", "--exclude", "--settle", "--ray", "--features", "--keep"),
    },
    "schedule": {
        *("--library", "--cron", "--timezone", "--name"),
        *("--model", "--spec", "--include", "--exclude", "--settle", "--retry-failed"),
        *("--until", "--max-hours", "--ray", "--features", "--keep"),
    },
    "ask": {
        *("--library", "--video", "--folder", "--from", "--to", "--token-budget", "--reader", "--model", "--json"),
        "--features",
    },
    "search": {"--library", "--video", "--folder", "--from", "--to", "--model", "--features", "--json"},
    "status": {"--library", "--json"},
    "verify": {"--library", "--json"},
    "prune": {"--library", "--states", "--json"},
    "remove": {"--library", "--json"},
    "doctor": {"--model", "--json"},
    "demo": {"--keep", "--model", "--json"},
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video of 14 s, four segments."""
    folder = tmp_path_factory.mktemp("cli")
    index(folder / "library", small_video(folder / "talk.mp4", seconds=14))
    return folder / "library"


def test_the_commands_and_their_options_are_the_designed_ones() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    found = {
        name: {option for one in command.params for option in one.opts if option.startswith("--")}
        for name, command in commands.items()
    }
    assert found == OPTIONS


@pytest.mark.parametrize("command", ["index", "schedule", "ask", "search", "remove", "demo"])
def test_help_teaches_by_example(command: str) -> None:
    assert f"tempo {command} " in tempo(command, "--help").out


def test_the_licence_is_said_where_a_model_is_picked() -> None:
    for command in ("index", "schedule", "ask", "search", "demo"):
        assert "non-commercial" in tempo(command, "--help").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["frob"],
        ["index"],
        ["index", "x.mp4"],
        ["index", "x.mp4", "--library", "lib", "--frob"],
        ["index", ".", "--library", "lib", "--until", "25:00"],
        ["index", ".", "--library", "lib", "--until", "soon"],
        ["ask", "--library", "lib"],
        ["ask", "What?", "--library", "lib", "--from", "1:75"],
        ["ask", "What?", "--library", "lib", "--token-budget", "0"],
        ["ask", "What?", "--library", "lib", "--token-budget", "many"],
        ["remove", "--library", "lib"],
        ["status", "--library", "gs://bucket/library"],
        ["status", "--library", "s3:/bucket/library"],
    ],
    ids=" ".join,
)
def test_a_slip_is_a_usage_error(arguments: list[str]) -> None:
    said = tempo(*arguments, code=2)
    assert said.out == ""
    assert said.err


def test_what_fits_no_video_or_no_segment_is_a_usage_error(library: Path) -> None:
    assert "no video 'nope'" in tempo("ask", "What?", "--library", library, "--video", "nope", code=2).err
    assert "no video 'nope'" in tempo("remove", "nope", "--library", library, code=2).err
    assert "range of time" in tempo("ask", "What?", "--library", library, "--from", "1:00:00", code=2).err
    assert "no index spec 'nope'" in tempo("index", library.parent, "--library", library, "--spec", "nope", code=2).err


@pytest.mark.parametrize("command", ["status", "verify", "prune", "remove", "ask", "search"])
def test_a_library_that_is_not_there_is_one_line(command: str, tmp_path: Path) -> None:
    said = tempo(command, *(["x"] if command in {"remove", "ask", "search"} else []), "--library", tmp_path, code=1)
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert "tempo: no library at" in said.err


def test_a_source_that_is_not_there_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    said = tempo("index", tmp_path / "nope.mp4", "--library", tmp_path / "library", code=1)
    assert "nope.mp4: no such file" in said.err
    assert not (tmp_path / "library").exists()


def test_a_model_that_is_not_there_leaves_no_library(tmp_path: Path) -> None:
    video = small_video(tmp_path / "talk.mp4")
    said = tempo("index", video, "--library", tmp_path / "library", "--model", tmp_path / "nope", code=1)
    assert "no checkpoint at" in said.err
    assert not (tmp_path / "library").exists()


def test_a_folder_of_other_things_is_not_made_a_library(tmp_path: Path) -> None:
    video = small_video(tmp_path / "talk.mp4")
    assert "not empty" in tempo("index", video, "--library", tmp_path, code=2).err
    assert [path.name for path in tmp_path.iterdir()] == ["talk.mp4"]


@pytest.mark.parametrize("command", [["status", "--library"], ["index", ".", "--library"], ["demo", "--keep"]])
def test_a_place_that_cannot_be_used_is_one_line(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    small_video(tmp_path / "talk.mp4")
    arguments = [str(tmp_path) if argument == "." else argument for argument in command]
    said = tempo(*arguments, tmp_path / "file", code=1)
    assert said.err.splitlines()[-1].startswith(f"tempo: {tmp_path / 'file'}")


def test_a_plan_does_nothing(tmp_path: Path) -> None:
    video = small_video(tmp_path / "talk.mp4", seconds=14)
    (plan,) = tempo("index", video, "--library", tmp_path / "library", "--plan", "--json").json
    assert plan["tasks"] == [{"uri": str(video), "why": "new", "bytes": video.stat().st_size}]
    assert (plan["videos"], plan["probed"], plan["remote"], plan["segments"]) == (1, 1, 0, 4)
    assert plan["video_hours"] == pytest.approx(14 / 3600)
    assert plan["bytes"] > 0
    assert plan["seconds"] > 0
    assert "1 to index" in tempo("index", video, "--library", tmp_path / "library", "--plan").out
    assert not (tmp_path / "library").exists()


def test_the_environment_names_library_and_model(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPO_LIBRARY", str(library))
    assert tempo("status", "--json").json[0]["videos"] == 1
    monkeypatch.setenv("TEMPO_MODEL", str(library / "nope"))
    assert "no checkpoint at" in tempo("ask", "What?", code=1).err


LIGHT = """
import sys
from typer.testing import CliRunner
from flows.cli import app
for arguments in sys.argv[2:]:
    result = CliRunner().invoke(app, arguments.split("|"))
    assert result.exit_code == 0, (arguments, result.output)
loaded = {name.split(".")[0] for name in sys.modules} & {"torch", "transformers"}
assert not loaded, loaded
heavy = {name.split(".")[0] for name in sys.modules} & {"lancedb", "pyarrow"}
assert not heavy or sys.argv[1] == "storage", heavy
"""


def test_help_loads_neither_models_nor_tables() -> None:
    commands = [f"{name}|--help" for name in OPTIONS]
    said = ended(start([sys.executable, "-c", LIGHT, "nothing", "--help", *commands]))
    assert said.code == 0, said.err


def test_status_and_housekeeping_load_no_model(library: Path) -> None:
    commands = [f"{name}|--library|{library}" for name in ("status", "verify", "prune")]
    said = ended(start([sys.executable, "-c", LIGHT, "storage", *commands]))
    assert said.code == 0, said.err


ASKED = """
import sys
from typer.testing import CliRunner
from flows.cli import app
result = CliRunner().invoke(app, ["ask", "What is shown?", "--library", sys.argv[1]])
assert result.exit_code == 0, result.output
rooms = ("flows.run", "flows.video", "flows.on_ray", "flows.on_prefect", "tempo_core.decoding", "av", "ffmpeg", "ray")
print(*sorted(name for name in sys.modules if name.startswith(tuple(f"{room}." for room in rooms)) or name in rooms))
"""


@pytest.mark.slow
def test_asking_loads_nothing_of_the_indexer(library: Path) -> None:
    done = ended(start([sys.executable, "-c", ASKED, str(library)]))
    assert done.code == 0, done.err
    assert done.out.strip() == ""


@pytest.mark.slow
def test_a_process_of_its_own_says_json_and_nothing_else(library: Path) -> None:
    said = ended(start_tempo("ask", "What is shown?", "--library", library, "--json"))
    assert said.code == 0, said.err
    (answer,) = said.json
    assert answer["question"] == "What is shown?"
    assert "its own small world" in said.err


def test_a_stream_that_cannot_hold_a_name_gets_an_escape(tmp_path: Path) -> None:
    (video := tmp_path / "ünï日本🎬.mp4").write_text("no video")
    index(tmp_path / "library", video, code=3)
    arguments, environment = ("status", "--library", tmp_path / "library"), {"PYTHONIOENCODING": "ascii"}
    said, shown = start_tempo(*arguments, "--json", **environment), start_tempo(*arguments, **environment)
    assert ended(said).json[0]["failures"][0]["uri"] == str(video)
    assert r"\u65e5\u672c\U0001f3ac.mp4" in ended(shown).out


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_an_output_that_is_full_is_one_line(library: Path, flags: list[str]) -> None:
    command = [sys.executable, "-m", "flows.cli", "status", "--library", str(library), *flags]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "tempo: No space left on device"
    assert "flows" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    words = {"COMP_WORDS": "tempo st", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "tempo st"}
    environment = {
        **os.environ,
        **words,
        "_TEMPO_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    program = [sys.executable, "-c", "from flows.cli import app; app(prog_name='tempo')"]
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert re.search(r"\bstatus\b", done.stdout), done


def test_nothing_phones_home() -> None:
    switches = {"HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"}
    code = f"import flows.cli, os; flows.cli.prepare(); print(*(os.environ[name] for name in {switches}))"
    bare = {name: value for name, value in os.environ.items() if name not in switches}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
