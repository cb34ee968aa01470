"""The catalog as a library's readers and its writer see it: the committed videos, and the models they are under."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from storage.filters import begins_with, one_of, quoted
from storage.manifest import Manifest, read_manifest
from storage.records import ModelRecord, VideoRecord
from storage.row_checks import Row
from storage.schemas import CATALOG, CATALOG_SCHEMA, video_record
from storage.stores.base import Store
from storage.tables import Tables
from tempo_core.errors import LibraryError

LOST_CATALOG = (
    "the table of videos is gone although videos were committed: tables/ was deleted or damaged. Put it back from a "
    "copy, or index the sources again"
)


@dataclass(frozen=True)
class _Commit:
    """The catalog at one version: all rows, ordered by URI, and what is derived from them."""

    version: int | None
    records: list[VideoRecord]

    @cached_property
    def generations(self) -> dict[str, set[str]]:
        generations: dict[str, set[str]] = defaultdict(set)
        for record in self.records:
            generations[record.fingerprints.features].add(record.generation)
        return dict(generations)


class Catalog:
    """A library's store and tables, and its newest commit: read again only when there is a newer one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tables = Tables(store)
        self._seen = _Commit(None, [])

    def records(self) -> list[VideoRecord]:
        """All rows of the newest commit, of every model, ordered by URI; the list must not be changed."""
        return self._newest().records

    def each(self) -> Iterator[VideoRecord]:
        """The same rows as ``records``, in no order, read a few thousand at a time and not held."""
        for batch in self.tables.batches(CATALOG):
            yield from self._checked(batch.to_pylist())

    def manifest(self) -> Manifest:
        """Schema version, creation time and the default that was set."""
        return read_manifest(self.store)

    def videos(self, fingerprint: str | None, beginnings: Sequence[str] = ()) -> list[VideoRecord]:
        """The rows under a features fingerprint, None for the default one, whose URI begins so; ordered by URI."""
        fingerprint = fingerprint or self.default_fingerprint()
        return [] if fingerprint is None else self.rows(_under(fingerprint, beginnings))

    def models(self) -> list[ModelRecord]:
        """The models that the manifest lists: the default first, then by first commit."""
        manifest = self.manifest()
        return sorted(manifest.models, key=lambda model: model.features != manifest.default)

    def has_videos(self, fingerprint: str, beginnings: Sequence[str] = ()) -> bool:
        """Whether a video is committed under a features fingerprint, from a source that begins so."""
        return self.tables.has(CATALOG, _under(fingerprint, beginnings))

    def default_model(self) -> ModelRecord | None:
        """The model that is served unless another is asked for; None for an empty library."""
        return next((model for model in self.models() if self.has_videos(model.features)), None)

    def default_fingerprint(self) -> str | None:
        """The features fingerprint of the default model; None for an empty library."""
        model = self.default_model()
        return None if model is None else model.features

    def committed(self, generations: Iterable[str], beginnings: Sequence[str] = ()) -> dict[str, VideoRecord]:
        """Those of ``generations`` that are committed, each with its content's first source by URI that begins so.

        They are looked up in one commit, so of the generations of a content there is at most one.
        """
        names = sorted(set(generations))
        first: dict[str, VideoRecord] = {}
        where = " AND ".join([one_of("generation", names), *_begun(beginnings)])
        for record in self.rows(where) if names else []:
            first.setdefault(record.generation, record)
        return first

    def of_generations(self, generations: Iterable[str]) -> list[VideoRecord]:
        """The rows of ``generations``, copies too; ordered by URI."""
        names = sorted(set(generations))
        return self.rows(one_of("generation", names)) if names else []

    def names(self) -> pa.Table:
        """What every row can be found by: its ``uri``, ``video_id`` and ``generation``, as columns."""
        columns = ["uri", "video_id", "generation"]
        rows = self.tables.columns(CATALOG, columns)
        return CATALOG_SCHEMA.empty_table().select(columns) if rows is None else rows

    def share_below(self, fingerprint: str, beginnings: Sequence[str]) -> tuple[int, float]:
        """How many sources under a features fingerprint begin so, and their share of all rows."""
        below = self.tables.count(CATALOG, _under(fingerprint, beginnings))
        return below, below / max(1, self.tables.count(CATALOG))

    def generations_below(
        self, fingerprint: str, beginnings: Sequence[str], among: Sequence[str] | None = None
    ) -> pa.ChunkedArray:
        """The committed generations (``among`` these) of which a source begins so; copies repeat them."""
        listed = [] if among is None else [one_of("generation", among)]
        where = " AND ".join([_under(fingerprint, beginnings), *listed])
        rows = self.tables.columns(CATALOG, ["generation"], where)
        return pa.chunked_array([], pa.string()) if rows is None else rows["generation"]

    def generations(self, fingerprint: str) -> set[str]:
        """The committed generations under a features fingerprint; the set must not be changed."""
        return self._newest().generations.get(fingerprint, set())

    def is_lost(self) -> bool:
        """Whether the table is gone although videos were committed: then no part tells whose it is.

        A default is set only once the table exists (``Writer``).
        """
        return self.manifest().default is not None and self.tables.open(CATALOG) is None

    def rows(self, where: str) -> list[VideoRecord]:
        """The rows that fit a filter, as of now, ordered by URI."""
        return sorted(self._checked(self.tables.rows(CATALOG, where)), key=_by_uri)

    def _checked(self, rows: Iterable[Row]) -> list[VideoRecord]:
        try:
            return [video_record(row) for row in rows]
        except LibraryError as error:
            raise LibraryError(f"{self.store.uri}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:  # no such column, another type, no text
            raise LibraryError(f"{self.store.uri}: the catalog is damaged or not tempo's: {error!r}") from error

    def _newest(self) -> _Commit:
        version = self.tables.version(CATALOG)
        if version is None or version != self._seen.version:
            records = sorted(self.each(), key=_by_uri)
            self._seen = _Commit(version, records)  # its version was asked first: never taken for newer than it is
        return self._seen


def _under(fingerprint: str, beginnings: Sequence[str] = ()) -> str:
    return " AND ".join([f"features_fingerprint = {quoted(fingerprint)}", *_begun(beginnings)])


def _begun(beginnings: Sequence[str]) -> list[str]:
    return [begins_with("uri", beginnings)] if beginnings else []


def _by_uri(record: VideoRecord) -> tuple[str, str]:
    return record.uri, record.fingerprints.features
