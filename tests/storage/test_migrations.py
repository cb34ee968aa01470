"""An older library becomes one of today's, one numbered step after the other, also after a kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

from storage import Library, TimeRange, migrations, open_library
from storage.schemas import CATALOG, FAILURES, segments_table
from storage.stores.base import Store
from storage.tables import Tables
from tempo_core.errors import SchemaError
from tests.support.storage_harness import PRINTS, commit, contents, facts_of, index, source_of, stage, tiny_video
from tests.support.storage_killer import survives

VIDEOS = {"/a.mp4": 1, "/b.mp4": 1, "/c.mp4": 2, "/d.mp4": -1}
TAGS = pa.field("tags", pa.list_(pa.string()), nullable=False)
TITLE = pa.field("title", pa.string(), nullable=False)


def write_as_schema_1(library: Library) -> None:
    """Its tables and manifest as the first version wrote them, with tags and titles that somebody filled."""
    write_as_schema_2(library)
    database = lancedb.connect(library.store.tables_uri)
    for name in (CATALOG, FAILURES):
        rows = database.open_table(name).to_arrow()
        rows = rows.add_column(4, TAGS, pa.array([["news", "it's"]] * len(rows), TAGS.type))
        if name == CATALOG:
            rows = rows.add_column(18, TITLE, pa.array(["A title"] * len(rows)))
        else:
            rows = rows.rename_columns({"step": "stage"})
        database.drop_table(name)
        database.create_table(name, rows)  # the mark of the key is in the schema
    write_schema(library, 1)


def write_as_schema_2(library: Library) -> None:
    """Segments that do not know when their video starts, no checksums, and no list of models."""
    tables = Tables(library.store)
    tables.drop_columns(segments_table(PRINTS.features), ["video_start_s", "checksum"])
    tables.drop_columns(CATALOG, ["checksum"])
    write_schema(library, 2)


def write_as_schema_3(library: Library) -> None:
    """Models that do not say who made their features, and no word of what is kept: every video has states."""
    path = Path(library.uri, "library.json")
    manifest = json.loads(path.read_text())
    for model in manifest["models"]:
        del model["features_model"]
    kept = {name: manifest[name] for name in ("created", "default", "models")}
    path.write_text(json.dumps({**kept, "schema": 3}))


def write_schema(library: Library, version: int) -> None:
    path = Path(library.uri, "library.json")
    manifest = json.loads(path.read_text())
    manifest.pop("models", None)
    path.write_text(json.dumps({**manifest, "schema": version}))


def schema(uri: str) -> int:
    return int(json.loads(Path(uri, "library.json").read_text())["schema"])


def upgrade(uri: str) -> None:
    open_library(uri, create=True)


@pytest.fixture
def fresh(tmp_path: Path) -> Library:
    """The same videos as ``old``, never upgraded."""
    library = open_library(str(tmp_path / "fresh"), create=True)
    index(library, VIDEOS)
    return library


@pytest.fixture
def old(fresh: Library, tmp_path: Path) -> Library:
    shutil.copytree(fresh.uri, tmp_path / "old")
    library = open_library(str(tmp_path / "old"))
    write_as_schema_1(library)
    return library


def test_a_reader_says_that_an_upgrade_is_due_and_changes_nothing(old: Library) -> None:
    with pytest.raises(SchemaError, match="has schema 1, not yet 5: `tempo index` brings it up to date"):
        open_library(old.uri)
    assert schema(old.uri) == 1
    assert "tags" in old.tables.ensure(CATALOG).schema.names


def test_an_upgraded_library_holds_what_one_written_today_holds(old: Library, fresh: Library) -> None:
    upgraded = open_library(old.uri, create=True)
    assert schema(old.uri) == 5
    assert contents(upgraded) == contents(fresh)
    for name in (CATALOG, FAILURES):
        assert upgraded.tables.ensure(name).schema == fresh.tables.ensure(name).schema


def test_an_upgraded_library_lists_its_models_and_its_segments_know_the_start_of_their_video(
    fresh: Library, tmp_path: Path
) -> None:
    """By a range of time as a player shows it, which the table of segments could not be asked for before."""
    late, table = tiny_video(9), segments_table(PRINTS.features)
    with fresh.writer() as writer:
        staged = stage(fresh, late)
        commit(writer, staged, source_of("/late.mp4", 9), replace(facts_of(late), start_s=0.1 + 0.2))
    shutil.copytree(fresh.uri, tmp_path / "old")
    write_as_schema_2(open_library(str(tmp_path / "old")))
    upgraded = open_library(str(tmp_path / "old"), create=True)
    assert upgraded.models() == fresh.models() and upgraded.default_model() == fresh.default_model()
    assert contents(upgraded) == contents(fresh)
    assert upgraded.tables.ensure(table).schema == fresh.tables.ensure(table).schema
    ranges = [TimeRange(from_s=5.0), TimeRange(to_s=0.2)]
    for times in ranges:
        hits = upgraded.search(late.features[0], times=times)
        assert hits and hits == fresh.search(late.features[0], times=times)


def test_an_upgraded_library_s_models_made_their_features_themselves(fresh: Library) -> None:
    models = fresh.models()
    write_as_schema_3(fresh)
    upgraded = open_library(fresh.uri, create=True)
    assert upgraded.models() == models
    assert [model.features_model for model in models] == [None]
    assert '"features_model": null' in Path(fresh.uri, "library.json").read_text()


def test_a_row_that_changes_after_an_upgrade_is_found(old: Library) -> None:
    upgraded = open_library(old.uri, create=True)
    assert upgraded.verify() == []
    upgraded.tables.ensure(CATALOG).update(where="uri = '/a.mp4'", values={"width": 7})
    upgraded.tables.ensure(segments_table(PRINTS.features)).update(where="index = 1", values={"count": 7})
    subjects = [problem.subject for problem in upgraded.verify() if "checksum differs" in problem.reason]
    assert subjects == ["/a.mp4", "/a.mp4", "/c.mp4"]


def test_an_upgraded_library_is_written_on(old: Library) -> None:
    upgraded = open_library(old.uri, create=True)
    index(upgraded, {"/a.mp4": 3, "/d.mp4": -2, "/e.mp4": -1})
    assert upgraded.verify() == []
    assert upgraded.default_fingerprint() == PRINTS.features
    assert {failure.source.uri: (failure.step, failure.attempts) for failure in upgraded.failures()} == {
        "/d.mp4": ("decode", 2), "/e.mp4": ("decode", 1)
    }  # fmt: skip


def test_an_old_library_without_videos_or_failures_is_upgraded(tmp_path: Path) -> None:
    empty = open_library(str(tmp_path / "empty"), create=True)
    write_schema(empty, 1)
    upgrade(empty.uri)
    assert schema(empty.uri) == 5


def test_several_steps_run_in_their_order(old: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def next_step(store: Store, tables: Tables) -> None:
        assert schema(old.uri) == 5
        assert "tags" not in tables.ensure(CATALOG).schema.names

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, next_step))
    upgrade(old.uri)
    assert schema(old.uri) == 6


def test_a_library_of_schema_3_is_read_as_it_is_and_brought_up_to_date_by_whoever_writes_it(fresh: Library) -> None:
    models = fresh.models()
    write_as_schema_3(fresh)
    library = open_library(fresh.uri)
    assert len(library.read_states(library.videos()[0], verify=True)) == 3
    assert library.models() == models
    assert schema(fresh.uri) == 3
    with library.writer() as writer:
        writer.set_states_budget(0)
        assert writer.keep_to_budget().videos == 2
    assert schema(fresh.uri) == 5


@pytest.mark.slow
def test_an_upgrade_killed_at_any_write_goes_on_where_it_was(old: Library, fresh: Library, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    for writes in range(100):
        shutil.copytree(old.uri, killed)
        survived = survives(writes, upgrade, str(killed))
        upgraded = open_library(str(killed), create=True)
        with upgraded.writer() as writer:
            writer.prune(grace_s=0)  # a manifest that was written and not yet renamed
        assert contents(upgraded) == contents(fresh), f"after write {writes}"
        shutil.rmtree(killed)
        if survived:
            break
    assert writes > 5, "all kinds of writes were met"
