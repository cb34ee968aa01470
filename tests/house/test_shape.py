"""The shape of the code: short files, short flat functions, a sentence on every module, two broad ``except``s."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

FOLDERS = ("tempo_core", "storage", "serving", "flows", "benchmarks", "nano")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_FILE_LINES = 280
MAX_FUNCTION_LINES = 60
MAX_NESTING = 3
Function = ast.FunctionDef | ast.AsyncFunctionDef
Block = ast.For | ast.AsyncFor | ast.While | ast.If | ast.With | ast.AsyncWith | ast.Try | ast.Match


def place(path: Path, node: ast.stmt | ast.excepthandler) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, Function))


def test_no_file_is_too_long() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in [*SOURCES, *TESTS]}
    assert {path: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    lines = {
        place(path, node): (node.end_lineno or node.lineno) - node.lineno + 1
        for path in SOURCES
        for node in functions(path)
    }
    assert {where: count for where, count in lines.items() if count > MAX_FUNCTION_LINES} == {}


def nesting(node: ast.AST) -> int:
    """Blocks within blocks below ``node``; an ``elif`` is no deeper than its ``if``."""
    return max((nesting(child) + deepens(node, child) for child in ast.iter_child_nodes(node)), default=0)


def deepens(parent: ast.AST, child: ast.AST) -> bool:
    is_elif = isinstance(parent, ast.If) and isinstance(child, ast.If) and parent.orelse == [child]
    return isinstance(child, Block) and not is_elif


def test_no_function_nests_deeply() -> None:
    depths = {place(path, node): nesting(node) for path in SOURCES for node in functions(path)}
    assert {where: depth for where, depth in depths.items() if depth > MAX_NESTING} == {}


@pytest.mark.parametrize(
    ("code", "depth"),
    [
        ("pass", 0),
        ("if a:\n b\nelif c:\n d\nelse:\n e", 1),
        ("for a in b:\n with c:\n  try:\n   if d: pass\n  finally: pass", 4),
        ("if a:\n b\nelse:\n if c: d\n e", 2),
    ],
)
def test_nesting_is_counted_as_it_is_read(code: str, depth: int) -> None:
    assert nesting(ast.parse(code)) == depth


def is_broad(node: ast.AST) -> bool:
    """Whether ``node`` swallows whatever is raised; a handler that ends in ``raise`` only tidies up."""
    if isinstance(node, ast.ExceptHandler):
        caught = ast.walk(node.type) if node.type else [ast.Name("BaseException")]
        return catches_all(caught) and not isinstance(node.body[-1], ast.Raise)
    is_suppress = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress")
    return is_suppress and catches_all(ast.walk(node))


def catches_all(nodes: Iterable[ast.AST]) -> bool:
    return any(isinstance(node, ast.Name) and node.id in {"Exception", "BaseException"} for node in nodes)


def test_only_a_failed_video_and_a_question_under_way_are_caught_whatever_it_is() -> None:
    parsed = ((path, node) for path in SOURCES for node in ast.walk(ast.parse(path.read_text())))
    broad = [str(path.relative_to(ROOT)) for path, node in parsed if is_broad(node)]
    assert sorted(broad) == ["flows/failure.py", "serving/worker.py"]


@pytest.mark.parametrize(
    ("code", "broad"),
    [
        ("try: a()\nexcept: b()", True),
        ("try: a()\nexcept (OSError, Exception): b()", True),
        ("with suppress(Exception): a()", True),
        ("try: a()\nexcept OSError: b()", False),
        ("try: a()\nexcept BaseException:\n b()\n raise", False),
    ],
)
def test_a_broad_except_is_known_in_every_form(code: str, broad: bool) -> None:
    assert any(map(is_broad, ast.walk(ast.parse(code)))) is broad


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ('print("progress")', "T201"),
        ("import os", "D100"),
        ('"""A room."""\ndef silent():\n    """"""', "D419"),
        ("try:\n    pass\nexcept Exception:\n    pass", "BLE001"),
        ("from . import errors", "TID252"),
    ],
)
def test_the_linter_refuses(code: str, rule: str) -> None:
    ruff = [str(Path(sys.executable).with_name("ruff")), "check", "--output-format=concise"]
    command = [*ruff, "--stdin-filename=tempo_core/new.py", "-"]
    done = subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True, timeout=60, check=False)
    assert rule in done.stdout
