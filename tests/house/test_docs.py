"""What the pages for readers promise: every file, function, link and command that they name is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli import app
from tests.support import ROOT

README, ARCHITECTURE = ROOT / "README.md", ROOT / "docs" / "architecture.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("tempo_core", "storage", "serving", "flows", "nano")
MOST_README_LINES, MOST_WORDS = 120, 25
NAMED = re.compile(
    rf"(?<![\w/.-])((?:{'|'.join(PACKAGES)}|tests|benchmarks|docs|infra)/[\w./*-]*[\w*/])(?::([A-Za-z_][\w.]*\w))?"
)


def section(page: Path, title: str) -> str:
    """The text below a heading, up to the next one of its level."""
    return page.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def absent_paths(text: str) -> list[str]:
    """The paths and patterns of this repository in ``text`` that fit no file or folder."""
    return [path for path, _ in NAMED.findall(text) if not any(ROOT.glob(path))]


def absent_names(text: str) -> list[str]:
    """What ``text`` names as ``file.py:Class.method`` and the file does not define."""
    named = [(path, name) for path, name in NAMED.findall(text) if name]
    return [f"{path}:{name}" for path, name in named if name not in defined(ROOT / path)]


def defined(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    statements = ast.parse(path.read_text()).body
    classes = [statement for statement in statements if isinstance(statement, ast.ClassDef)]
    methods = {f"{one.name}.{name}" for one in classes for member in one.body for name in names(member)}
    return methods | {name for statement in statements for name in names(statement)}


def names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    yield from (target.id for target in targets if isinstance(target, ast.Name))


def broken_links(text: str, folder: Path) -> list[str]:
    """Relative links from a page in ``folder`` that lead to no file of this repository."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    return [link for link in links if not leads_somewhere(link, folder)]


def leads_somewhere(link: str, folder: Path) -> bool:
    path, _, anchor = link.partition("#")
    file = (folder / path).resolve()
    return file.is_file() and file.is_relative_to(ROOT) and (not anchor or anchor in anchors(file))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def foreign_pages(text: str) -> list[str]:
    """Pages that ``text`` names by a file or by a section sign, and that this repository does not have."""
    pages = [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "tests", "benchmarks") for page in (ROOT / folder).rglob("*.md")),
    ]
    known = {page.name for page in pages}
    return [name for name in re.findall(r"[\w-]+\.md\b|\w+ §", text) if name not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_everything_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    assert (absent_paths(text), absent_names(text)) == ([], [])
    assert (broken_links(text, page.parent), foreign_pages(text)) == ([], [])


def test_what_is_not_there_is_noticed() -> None:
    assert absent_paths("`flows/nowhere.py`, `docs/*.txt` and `flows/cli.py`") == ["flows/nowhere.py", "docs/*.txt"]
    named = "`flows/cli.py:main` `flows/cli.py:nothing` `storage/writer.py:Writer.commit` `storage/writer.py:Writer.no`"
    assert absent_names(named) == ["flows/cli.py:nothing", "storage/writer.py:Writer.no"]
    assert broken_links("[a](README.md#use) [b](no.md) [c](../x) [d](https://x.org/no) [e](README.md#no)", ROOT) == [
        "no.md",
        "../x",
        "README.md#no",
    ]
    assert foreign_pages("README.md, as PLAN.md says (PLAN §2)") == ["PLAN.md", "PLAN §"]


def test_the_readme_shows_every_command_and_no_other() -> None:
    rows = "\n".join(line for line in section(README, "Use").splitlines() if line.startswith("| `tempo "))
    assert set(re.findall(r"`tempo (\w+)", rows)) == {command.name for command in app.registered_commands}


def test_each_promise_names_the_test_that_holds_it() -> None:
    promises = re.findall(r"^- (.*(?:\n  .*)*)", section(README, "What it promises"), re.MULTILINE)
    assert len(promises) > 4
    assert [promise for promise in promises if not re.search(r"tests/\w+/test_\w+\.py", promise)] == []


def test_the_architecture_shows_every_room() -> None:
    rooms = {folder.parent.name for package in PACKAGES for folder in (ROOT / package).rglob("__init__.py")}
    assert rooms - set(re.findall(r"^ {4,}(\w+)/ ", section(ARCHITECTURE, "The rooms"), re.MULTILINE)) == set()


def test_readme_and_glossary_stay_short() -> None:
    assert len(README.read_text().splitlines()) <= MOST_README_LINES
    rows = re.findall(r"^\| (?!word |-)", section(ARCHITECTURE, "Words"), re.MULTILINE)
    assert 0 < len(rows) <= MOST_WORDS
