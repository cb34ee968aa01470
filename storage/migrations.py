"""How a library of an older schema becomes one of today's.

``MIGRATIONS[n - 1]`` takes schema n to n + 1. A migration runs under the lease and may be killed and run again, so it
must be repeatable. Readers of an older library are told to upgrade; they change nothing themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import pyarrow as pa

from storage.row_checks import CHECKSUM, with_checksums
from storage.schemas import CATALOG, FAILURES, KEY, SEGMENTS_PREFIX
from storage.stores.base import LIBRARY_FILE, Store
from storage.tables import Tables

Migration = Callable[[Store, Tables], None]
KINDS = ("frames", "states", "features")


def drop_tags_and_titles(_: Store, tables: Tables) -> None:
    """Schema 2: videos and failures without the tags and titles that nothing filled; a failure has a step of work."""
    tables.drop_columns(CATALOG, ["tags", "title"])
    tables.drop_columns(FAILURES, ["tags"])
    tables.rename_column(FAILURES, "stage", "step")


def list_models_starts_and_checksums(store: Store, tables: Tables) -> None:
    """Schema 3: the manifest lists the models, a segment has its video's ``start_s``: a question reads hits alone.

    And the rows of videos and segments have a checksum, which vouches for them as they are now.
    """
    columns = ["generation", "start_s", "indexed_at", "model_id", "spec", *(f"{kind}_fingerprint" for kind in KINDS)]
    videos = sorted(tables.rows(CATALOG, columns=columns), key=itemgetter("indexed_at"))
    models = {video["features_fingerprint"]: _model(video) for video in videos}
    manifest = json.loads(store.read_bytes(LIBRARY_FILE))
    store.write_bytes(LIBRARY_FILE, json.dumps({**manifest, "models": list(models.values())}, sort_keys=True).encode())
    starts = {video["generation"]: video["start_s"] for video in videos if video["start_s"]}
    for name in tables.names():
        if name.startswith(SEGMENTS_PREFIX):
            tables.add_column(name, "video_start_s", "CAST(0 AS DOUBLE)")
            _fill_starts(tables, name, starts)
            _fill_checksums(tables, name, ["generation", "index"])
    _fill_checksums(tables, CATALOG, [KEY])


def name_features_models(store: Store, _: Tables) -> None:
    """Schema 4: the manifest says which embedding model made a model's features; until then, each made its own."""
    manifest = json.loads(store.read_bytes(LIBRARY_FILE))
    models = [{"features_model": None} | model for model in manifest["models"]]
    store.write_bytes(LIBRARY_FILE, json.dumps({**manifest, "models": models}, sort_keys=True).encode())


def _model(video: dict[str, Any]) -> dict[str, Any]:
    chain = {kind: video[f"{kind}_fingerprint"] for kind in KINDS}
    return {"fingerprints": chain, "model_id": video["model_id"], "spec": json.loads(video["spec"])}


def _fill_starts(tables: Tables, name: str, starts: Mapping[str, float]) -> None:
    rows = tables.rows(name, columns=["generation", "index"]) if starts else []
    filled = [row | {"video_start_s": starts[row["generation"]]} for row in rows if row["generation"] in starts]
    if filled:
        columns = tables.ensure(name).schema
        schema = pa.schema([columns.field(column) for column in ("generation", "index", "video_start_s")])
        tables.replace_values(name, ["generation", "index"], pa.Table.from_pylist(filled, schema=schema))


def _fill_checksums(tables: Tables, name: str, keys: Sequence[str]) -> None:
    tables.add_column(name, CHECKSUM, "CAST(0 AS BIGINT)")
    rows = (with_checksums(pa.Table.from_batches([batch])) for batch in tables.batches(name))
    if filled := [batch.select([*keys, CHECKSUM]) for batch in rows if len(batch)]:
        tables.replace_values(name, keys, pa.concat_tables(filled))


def let_states_be_absent(_: Store, __: Tables) -> None:
    """Schema 5: a video may have no states, and the manifest says what is kept. What was written stays as it is."""


MIGRATIONS: tuple[Migration, ...] = (  # schema 1 is the first
    drop_tags_and_titles,
    list_models_starts_and_checksums,
    name_features_models,
    let_states_be_absent,
)
OLDEST_READ = 3  # since then the manifest was only added to: what it lacks has a default


def schema_version() -> int:
    """The schema this program reads and writes."""
    return 1 + len(MIGRATIONS)
