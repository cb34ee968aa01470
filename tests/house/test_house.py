"""The rules of the house: who may import whom, what loads torch, what is public, what is declared."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

import tempo_core
from tests.support import ROOT

PACKAGES = ("tempo_core", "storage", "serving", "flows", "nano")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def python(code: str, *arguments: str) -> str:
    done = run(sys.executable, "-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- who may import whom ---------------------------------------------------------------------------------------------


def test_the_import_contracts_hold() -> None:
    done = run(tool("lint-imports"), "--no-cache")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("tempo_core/errors.py", "import storage", "Imports go down only"),
        ("storage/records.py", "def late():\n    import serving", "Imports go down only"),
        ("flows/video/stage.py", "import flows.run.plan", "The rooms of flows are in a line"),
        ("flows/run/plan.py", "import flows.terminal.output", "The rooms of flows are in a line"),
        ("flows/result.py", "import flows.reporter", "The rooms of flows are in a line"),
        ("tempo_core/spec.py", "import pyarrow", "What is computed knows no cluster and no disk layout"),
        ("tempo_core/spec.py", "import ray", "What is computed knows no cluster and no disk layout"),
        ("tempo_core/spec.py", "import nano", "What is computed, kept and asked knows no world of ours"),
        ("nano/world.py", "import storage", "The world knows only what is computed"),
        ("storage/records.py", "import torch", "Where it is kept knows no model"),
        ("storage/records.py", "import tempo_core.compressor", "Where it is kept knows no model"),
        ("storage/records.py", "import tempo_core.geometry", "Storage takes only values from what is computed"),
        ("storage/writer.py", "import storage.library", "The rooms of storage stand in a line"),
        ("storage/stores/local_lease.py", "import storage.stores.s3_lease", "A disk and S3 stand side by side"),
        ("storage/search.py", "import lancedb", "LanceDB is known in one file"),
        ("storage/sources/source_sets.py", "import s3fs", "S3 is spoken to by its stores only"),
    ],
)
def test_a_wrong_import_breaks_its_contract(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = run(tool("lint-imports"), "--no-cache", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert re.search(rf"^{contract} +BROKEN", done.stdout, re.MULTILINE), done.stdout


# --- what loads torch ------------------------------------------------------------------------------------------------

LOADED = "; print(*sorted({'torch', 'transformers'} & sys.modules.keys()))"
EVERY_MODULE = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
"""


def test_no_module_of_storage_loads_torch() -> None:
    assert python(EVERY_MODULE + LOADED[2:], "storage") == ""


def test_the_value_modules_load_no_torch() -> None:
    values = ("errors", "fingerprints", "sampling", "spec", "values")
    imports = "; ".join(f"import tempo_core.{module}" for module in values)
    assert python(f"import sys; {imports}{LOADED}") == ""


def test_help_loads_no_torch() -> None:
    module, _, function = PROJECT["scripts"]["tempo"].partition(":")
    call = f"import atexit, sys; from {module} import {function}; sys.argv = ['tempo', '--help']"
    last_line = "atexit.register(lambda: print('loaded:', *sorted({'torch', 'transformers'} & sys.modules.keys())))"
    output = python(f"{call}; {last_line}; {function}()")
    assert "Usage" in output
    assert output.splitlines()[-1] == "loaded:"


@pytest.mark.slow
def test_every_module_can_be_imported() -> None:
    python(EVERY_MODULE, *PACKAGES)


# --- what is public --------------------------------------------------------------------------------------------------


def test_the_public_names_of_tempo_core_are_these() -> None:
    assert tempo_core.__all__ == [
        "Checkpoint",
        "FrameGeometry",
        "IndexSpec",
        "PrefixCache",
        "SegmentPixels",
        "SegmentState",
        "TempoError",
        "allocate",
        "load_checkpoint",
        "with_features",
    ]
    assert [name for name in tempo_core.__all__ if getattr(tempo_core, name).__name__ != name] == []


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("load_checkpoint", ["path_or_hub_id", "base", "device", "dtype", "may_fetch"]),
        ("with_features", ["checkpoint", "path_or_hub_id", "may_fetch"]),
        ("allocate", ["scores", "token_budget", "min_tokens", "max_tokens"]),
        ("SegmentPixels", ["patches", "grid_thw", "pair_times_s"]),
    ],
)
def test_public_names_take_these_arguments(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(tempo_core, name)).parameters) == parameters


# --- what is declared ------------------------------------------------------------------------------------------------


NOT_IMPORTED_BY_NAME = {
    "fastapi": "Prefect's, and capped: with a newer one Prefect does not import",
    "imageio-ffmpeg": "the last place where ffmpeg is looked for, and it may be missing",
}


def declared(*extras: str) -> dict[NormalizedName, Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def foreign_imports(paths: list[Path]) -> dict[str, str]:
    """Top-level names that are neither ours nor the standard library's, each with one file that imports it."""
    ours = {*PACKAGES, "benchmarks", "tests"}
    found: dict[str, str] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            found |= {name.partition(".")[0]: str(path.relative_to(ROOT)) for name in names}
    return {name: where for name, where in found.items() if name not in ours | sys.stdlib_module_names}


TESTS = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize(("paths", "extras"), [(MODULES, ()), (BENCHMARKS, ("dev",)), (TESTS, ("dev",))])
def test_every_import_is_of_a_declared_dependency(paths: list[Path], extras: tuple[str, ...]) -> None:
    distributions = importlib.metadata.packages_distributions()
    known = declared(*extras)
    undeclared = {
        name: where
        for name, where in foreign_imports(paths).items()
        if not known.keys() & {canonicalize_name(owner) for owner in distributions.get(name, [])}
    }
    assert undeclared == {}


def test_every_declared_dependency_is_imported() -> None:
    distributions = importlib.metadata.packages_distributions()
    used = {canonicalize_name(owner) for name in foreign_imports(MODULES) for owner in distributions.get(name, [])}
    assert declared().keys() - used == NOT_IMPORTED_BY_NAME.keys()


def test_every_dependency_is_pinned_within_its_range() -> None:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pinned = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if line)}
    unfit = [str(need) for name, need in declared("dev").items() if pinned.get(name, "0") not in need.specifier]
    assert unfit == []
    assert pinned[canonicalize_name("torch")] == "2.13.0"


def test_the_image_copies_all_that_the_package_is_built_from(tmp_path: Path) -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "infra" / "Dockerfile").read_text(), re.MULTILINE)
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert sorted(sources) == sorted(allowed)
    for source in sources:
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    done = run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    packed = set(ZipFile(next((tmp_path / "dist").glob("*.whl"))).namelist())
    weights = [path for path in (ROOT / "nano" / "weights").rglob("*") if path.is_file()]
    assert weights
    assert {str(path.relative_to(ROOT)) for path in (*MODULES, *weights)} <= packed
    assert {f"{package}/py.typed" for package in PACKAGES} <= packed
