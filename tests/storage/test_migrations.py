"""An older library becomes one of today's, one numbered step after the other, also after a kill."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from storage import Library, manifest, migrations, open_library
from storage.schemas import CATALOG
from storage.stores.base import Store
from storage.tables import Tables
from tempo_core.errors import SchemaError
from tests.support.storage_harness import PRINTS, contents, index
from tests.support.storage_killer import start


def add_titles(store: Store, tables: Tables) -> None:
    """Schema 1 of this test has no titles; give every video an empty one."""
    table = tables.ensure(CATALOG)
    if "title" not in table.schema.names:
        table.add_columns({"title": "''"})


def rename_nothing(store: Store, tables: Tables) -> None:
    """A second step, which only has to run after the first."""
    assert "title" in tables.ensure(CATALOG).schema.names


@pytest.fixture
def old(tmp_path: Path) -> Library:
    """A library written without the titles that today's catalog has."""
    library = open_library(str(tmp_path / "library"), create=True)
    index(library, {"/a.mp4": 1, "/b.mp4": 1, "/c.mp4": 2})
    library.tables.ensure(CATALOG).drop_columns(["title"])
    return library


@pytest.fixture
def newer_program(old: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "MIGRATIONS", (add_titles, rename_nothing))


def schema(library: Library) -> int:
    return int(json.loads(Path(library.uri, "library.json").read_text())["schema"])


@pytest.mark.usefixtures("newer_program")
def test_a_reader_says_that_an_upgrade_is_due_and_changes_nothing(old: Library) -> None:
    with pytest.raises(SchemaError, match="has schema 1, not yet 3: `tempo index` brings it up to date"):
        open_library(old.uri)
    assert schema(old) == 1


@pytest.mark.usefixtures("newer_program")
def test_an_older_library_is_upgraded_step_by_step(old: Library, tmp_path: Path) -> None:
    upgraded = open_library(old.uri, create=True)
    assert schema(upgraded) == 3
    fresh = open_library(str(tmp_path / "fresh"), create=True)
    index(fresh, {"/a.mp4": 1, "/b.mp4": 1, "/c.mp4": 2})
    assert contents(upgraded) == contents(fresh)
    index(upgraded, {"/a.mp4": 3})
    assert upgraded.verify() == []
    assert upgraded.default_fingerprint() == PRINTS.features


def upgrade_and_die(uri: str) -> None:
    """Killed after the first step's change, before the new version is written down."""
    migrations.MIGRATIONS = (add_titles, rename_nothing)
    manifest.write_manifest = lambda store, manifest: os.kill(os.getpid(), signal.SIGKILL)
    open_library(uri, create=True)


@pytest.mark.slow
@pytest.mark.usefixtures("newer_program")
def test_a_killed_upgrade_goes_on_where_it_was(old: Library) -> None:
    process = start(upgrade_and_die, old.uri)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert schema(old) == 1
    assert schema(open_library(old.uri, create=True)) == 3
    assert len(old.videos()) == 3
