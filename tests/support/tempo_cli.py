"""``tempo`` as a user runs it, tiny videos for it, a second model, an ffmpeg that keeps count, a library's contents."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from flows.cli import app
from flows.embedded import embedded_folder
from flows.run.group import SHORT_BYTES
from storage import ALL_MODELS, open_library
from storage.schemas import CATALOG
from storage.stores.base import LIBRARY_FILE
from tempo_core.decoding import find_ffmpeg
from tests.support import ROOT
from tests.support.storage_harness import pruned, segment_rows
from tests.support.videos import make_video

DEADLINE_S = 240

TOWER = "model.vision_tower_aux_list.0.vlm.model."
Record = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[Record]:
        """Standard output as JSON objects, a line each; nothing else may be on it."""
        return [json.loads(line) for line in self.out.splitlines()]


def tempo(*arguments: object, code: int = 0) -> Said:
    """Run a command in this process and check its exit code."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    said = Said(result.exit_code, result.stdout, result.stderr)
    assert said.code == code, f"exit {said.code}, not {code}\n{said.out}\n{said.err}"
    assert "Traceback" not in said.err, said.err
    return said


def name_model(library: Path, model_id: str) -> None:
    """Let the library say that its videos are of another model, as somebody else may have written it."""
    open_library(str(library)).tables.ensure(CATALOG).update(values={"model_id": model_id})
    manifest = library / LIBRARY_FILE
    listed = json.loads(manifest.read_text())
    listed["models"] = [model | {"model_id": model_id} for model in listed["models"]]
    manifest.write_text(json.dumps(listed))


def start_tempo(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a process of its own, as the shell does."""
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    return start(command, **environment)


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    """Any command, from the checkout's root, its output kept."""
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> Said:
    """Wait for it."""
    out, err = process.communicate(timeout=DEADLINE_S)
    return Said(process.returncode, out, err)


def index(library: Path | str, *sources: object, code: int = 0) -> list[Record]:
    """``tempo index --json``: the lines per video, without the summary."""
    lines = tempo("index", *sources, "--library", library, "--json", code=code).json
    assert "uri" not in lines[-1]
    return lines[:-1]


def statuses(lines: list[Record]) -> dict[str, str]:
    """File name to status."""
    return {Path(line["uri"]).name: line["status"] for line in lines}


def small_video(path: Path, seconds: float = 2, rate: str = "5", size: tuple[int, int] = (96, 64)) -> Path:
    """A numbered video; the same arguments give the same bytes."""
    return make_video(path, seconds=seconds, rate=rate, size=size, codec="mpeg4")


def lengthen(path: Path) -> Path:
    """Append to an MP4 what players skip, so much that it counts as long, whose commit waits for no other."""
    with path.open("ab") as file:
        file.write((SHORT_BYTES + 1).to_bytes(4, "big") + b"free" + bytes(SHORT_BYTES - 7))
    return path


def other_model(folder: Path, *parts: str) -> Path:
    """The embedded checkpoint with its fine-tuned SVLM's tensors changed where the name begins with one of ``parts``.

    ``visual.`` changes what is encoded, ``language_model.`` only what is computed from it.
    """
    shutil.copytree(embedded_folder().parent, folder, dirs_exist_ok=True)
    for weights in (folder / embedded_folder().name).glob("*.safetensors"):
        tensors = load_file(weights)
        for name in tensors:
            if name.startswith(tuple(TOWER + part for part in parts)) and tensors[name].ndim > 1:
                tensors[name] = tensors[name].flip(0).contiguous()
        save_file(tensors, weights, metadata={"format": "pt"})
    return folder / embedded_folder().name


def counting_ffmpeg(folder: Path) -> tuple[str, Callable[[], int]]:
    """An ffmpeg that notes each video it decodes, and the number of notes so far."""
    log, program = folder / "decodes", folder / "counting-ffmpeg"
    log.touch()
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *-filters*|*-version*|*-decoders*) ;; *) echo "$*" >> "{log}" ;; esac\n'
        f'exec "{find_ffmpeg()}" "$@"\n'
    )
    program.chmod(0o755)
    return str(program), lambda: len(log.read_text().splitlines())


def contents(path: Path) -> dict[str, Any]:
    """All that a library holds, but for what may differ between two runs: generations, their paths, times."""
    library = open_library(str(path))
    catalog = library.videos(ALL_MODELS)
    return {
        "catalog": {
            replace(
                record,
                generation="",
                indexed_at=0.0,
                frames_part=replace(record.frames_part, path=""),
                states_part=replace(record.states_part, path="") if record.states_part else None,
            )
            for record in catalog
        },
        "failures": {replace(one, failed_at=0.0, attempts=0) for one in library.failures()},
        "segments": {row for record in catalog for row in segment_rows(library, record)},
        "bytes": {
            (record.video_id, record.fingerprints.features, number): library.store.read_bytes(part.path)
            for record in catalog
            for number, part in enumerate(record.parts)
        },
    }


def swept(path: Path) -> dict[str, Any]:
    """``contents``, and how many files and rows there are once nothing is kept for readers any more."""
    library = pruned(open_library(str(path)))
    rows = {name: library.tables.count(name) for name in library.tables.names() if name != "retired"}
    return {**contents(path), "files": len(list(library.store.files("parts"))), "rows": rows}
