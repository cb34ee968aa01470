"""``library.json``: what makes a folder or prefix a library, its schema version and its default model."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import get_args

from storage import migrations
from storage.migrations import OLDEST_READ, schema_version
from storage.records import ModelRecord
from storage.row_checks import CHECKSUM, parsed_model
from storage.stores.base import COMMIT_LOCK, LEASE_FILE, LIBRARY_FILE, PENDING_FILE, STAGED_SUFFIX, Store
from storage.tables import Tables
from tempo_core.errors import LibraryNotFound, LibraryOutdated, SchemaError, UsageError
from tempo_core.spec import Keep

CREATE_WAIT_S = 30.0


@dataclass(frozen=True)
class Manifest:
    """``default`` is the features fingerprint that is served unless another is asked for, None before the first.

    ``models``: all that videos were committed under, by first commit; every video of one may be gone again.
    ``keep``: what runs keep of a video unless they are told. ``states_budget``: bytes, None for no limit.
    """

    schema: int
    created: float
    default: str | None = None
    models: tuple[ModelRecord, ...] = ()
    keep: Keep = "states"
    states_budget: int | None = None

    def __post_init__(self) -> None:
        if self.keep not in get_args(Keep):
            raise ValueError(f"keep is {self.keep!r}"[:100])
        if self.states_budget is not None and self.states_budget < 0:
            raise ValueError(f"states_budget is {self.states_budget}")


def read_manifest(store: Store) -> Manifest:
    """The library's manifest; LibraryNotFound where there is none, SchemaError where it is not valid."""
    try:
        data = json.loads(store.read_bytes(LIBRARY_FILE))
        models = tuple(parsed_model(model) for model in data.get("models", ()))  # schemas 1 and 2 had none
        keep, budget = data.get("keep", "states"), data.get("states_budget")  # schema 4 had neither
        budget = None if budget is None else int(budget)
        return Manifest(int(data["schema"]), float(data["created"]), data["default"], models, keep, budget)
    except FileNotFoundError:
        raise LibraryNotFound(
            f"no library at {store.uri}; `tempo index SOURCE --library {store.uri}` makes one"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise SchemaError(f"{store.uri}/{LIBRARY_FILE} is no library manifest: {error!r}") from error


def write_manifest(store: Store, manifest: Manifest) -> None:
    """Replace it in one step; only under the lease."""
    values = asdict(manifest)
    store.write_bytes(LIBRARY_FILE, _text({**values, CHECKSUM: zlib.crc32(_text(values))}))


def is_as_written(store: Store) -> bool:
    """Whether the manifest has the checksum that it was written with; True where it was written without one."""
    values = json.loads(store.read_bytes(LIBRARY_FILE))
    written = values.pop(CHECKSUM, None)
    return written is None or written == zlib.crc32(_text(values))


def _text(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, sort_keys=True).encode()


def check_schema(store: Store, manifest: Manifest) -> None:
    """SchemaError for a library of a newer schema, LibraryOutdated for one too old to be read as it is."""
    if manifest.schema > schema_version():
        raise SchemaError(
            f"{store.uri} has schema {manifest.schema}, this program knows {schema_version()}: use a newer tempo"
        )
    if manifest.schema < OLDEST_READ:
        raise LibraryOutdated(
            f"{store.uri} has schema {manifest.schema}, not yet {schema_version()}: `tempo index` brings it up to date"
        )


def create_or_upgrade(store: Store) -> None:
    """Make the library if there is none, bring an older schema up to date; both under the lease, both repeatable."""
    if store.exists(LIBRARY_FILE) and read_manifest(store).schema >= schema_version():
        return
    _refuse_foreign_folder(store)
    lease = store.lease()
    lease.acquire(CREATE_WAIT_S)
    try:
        if not store.exists(LIBRARY_FILE):
            write_manifest(store, Manifest(schema_version(), time.time()))
        upgrade(store)
    finally:
        lease.release()


def upgrade(store: Store) -> Manifest:
    """One migration after the other, under the lease; the manifest as it is then. The version is written after each, so
    a killed upgrade goes on where it was."""
    manifest = read_manifest(store)
    tables = Tables(store)
    for migrate in migrations.MIGRATIONS[max(0, manifest.schema - 1) :]:
        migrate(store, tables)
        manifest = replace(read_manifest(store), schema=manifest.schema + 1)
        write_manifest(store, manifest)
    return manifest


def _refuse_foreign_folder(store: Store) -> None:
    """UsageError for a folder with other files in it: its name is more likely a slip than meant."""
    if store.exists(LIBRARY_FILE):
        return
    for file in store.files(""):
        if file.path not in {LEASE_FILE, COMMIT_LOCK, PENDING_FILE} and not file.path.endswith(STAGED_SUFFIX):
            raise UsageError(f"{store.uri} is no library, and not empty ({file.path}); name a new or empty one")
