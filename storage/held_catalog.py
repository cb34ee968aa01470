"""The catalog and the failures as the holder of the lease knows them: read once, then kept up with its own commits.

Only the holder changes them, so each look-up of a run is answered from memory, however much is committed. What is held
grows with the catalog and with nothing else: its rows as one Arrow table, and the records that were committed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from sys import intern

import pyarrow as pa

from storage.records import VideoRecord
from storage.schemas import CATALOG, CATALOG_SCHEMA, FAILURES, source_key, video_record
from storage.tables import Tables


@dataclass
class _Held:
    """``rows``: the catalog as it was read. ``by_key``: the number of a row in it, or the record that replaced it.

    ``copies``: the keys of all sources of a video under a model, by video id and features fingerprint. ``models``:
    features fingerprints, by first commit. ``attempts``: of failures, by key.
    """

    version: int | None
    rows: pa.Table
    by_key: dict[str, int | VideoRecord]
    copies: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)

    def record(self, key: str) -> VideoRecord | None:
        entry = self.by_key.get(key)
        return video_record(self.rows.slice(entry, 1).to_pylist()[0]) if isinstance(entry, int) else entry

    def put(self, record: VideoRecord) -> None:
        features, before = record.fingerprints.features, self.record(key := _key(record))
        if before is not None:
            self._take_out(before, key)
        self.copies.setdefault((record.video_id, features), []).append(key)
        if features not in self.models:
            self.models.append(features)
        self.by_key[key] = record

    def _take_out(self, record: VideoRecord, key: str) -> None:
        copies = self.copies[video := (record.video_id, record.fingerprints.features)]
        copies.remove(key)
        if not copies:
            del self.copies[video]


class HeldCatalog:
    """Valid only while the lease is held. It is read again where somebody else has committed after all: on S3, a holder
    can lose its lease in the very moment of its commit."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._held: _Held | None = None

    def models(self) -> list[str]:
        """The features fingerprints that videos are committed under, by first commit."""
        return self._read().models

    def of_video(self, video_id: str) -> list[VideoRecord]:
        """One row of a content under each model: copies differ in their source only."""
        held = self._read()
        keys = [held.copies.get((video_id, features)) for features in held.models]
        records = (held.record(copies[0]) for copies in keys if copies)
        return [record for record in records if record is not None]

    def replaced_by(self, records: Sequence[VideoRecord]) -> tuple[list[VideoRecord], list[VideoRecord]]:
        """What one commit of ``records`` gives up, and the rows of the copies of their contents that move with it."""
        given_up, moved = [], []
        replaced = {_key(record) for record in records}
        for record in records:
            before, copies = self._read().record(_key(record)), self._stale_copies(record, replaced)
            given_up += [old for old in (before, *copies) if old is not None and old.generation != record.generation]
            moved += [_moved(copy, record) for copy in copies]
        return given_up, moved

    def _stale_copies(self, record: VideoRecord, replaced: Set[str]) -> list[VideoRecord]:
        """The rows, but for those of the keys ``replaced``, of a content of which ``record`` is a new generation.

        All copies of a content stand on one generation, so none is stale where one of them is on the record's.
        """
        held, features = self._read(), record.fingerprints.features
        keys = (key for key in held.copies.get((record.video_id, features), ()) if key not in replaced)
        others = (held.record(key) for key in keys)
        first = next(others, None)
        if first is None or first.generation == record.generation:
            return []
        return [copy for copy in (first, *others) if copy is not None]

    def attempts(self, uri: str, fingerprint: str) -> int:
        """How often a source failed under a features fingerprint; 0 where no failure is recorded."""
        return self._read().attempts.get(source_key(uri, fingerprint), 0)

    def committed(self, records: Iterable[VideoRecord], version: int) -> None:
        """Note the rows of the commit that made this ``version`` of the table of videos."""
        held = self._read()
        if version != (held.version or 0) + 1:
            self.forget()
            return
        held.version = version
        for record in records:
            held.put(record)

    def failed(self, uri: str, fingerprint: str, attempts: int) -> None:
        """Note what is recorded of a failure now; 0 where it was forgotten."""
        held, key = self._read(), source_key(uri, fingerprint)
        if attempts:
            held.attempts[key] = attempts
        else:
            held.attempts.pop(key, None)

    def compacted(self) -> None:
        """Note that the tables were rewritten, with the same rows."""
        if self._held is not None:
            self._held.version = self._tables.version(CATALOG)

    def forget(self) -> None:
        """Read everything again when it is needed next."""
        self._held = None

    def _read(self) -> _Held:
        if self._held is None:
            version = self._tables.version(CATALOG)  # asked first: the rows are never taken for newer than they are
            rows = self._tables.columns(CATALOG)
            self._held = _index(version, CATALOG_SCHEMA.empty_table() if rows is None else rows.combine_chunks())
            if (failures := self._tables.columns(FAILURES, ["key", "attempts"])) is not None:
                keys, attempts = (failures[name].to_pylist() for name in ("key", "attempts"))
                self._held.attempts.update(zip(keys, attempts, strict=True))
        return self._held


def _index(version: int | None, rows: pa.Table) -> _Held:
    held = _Held(version, rows, {})
    first: dict[str, float] = {}
    names = ("key", "video_id", "features_fingerprint", "indexed_at")
    columns = zip(*(rows[name].to_pylist() for name in names), strict=True)
    for row, (key, video_id, fingerprint, indexed_at) in enumerate(columns):
        features = intern(fingerprint)
        held.by_key[key] = row
        held.copies.setdefault((video_id, features), []).append(key)
        first[features] = min(indexed_at, first.get(features, indexed_at))
    held.models.extend(sorted(first, key=lambda features: first[features]))
    return held


def _moved(copy: VideoRecord, record: VideoRecord) -> VideoRecord:
    """The row of a copy, now on the content's new generation; its source and time stay its own."""
    return replace(record, source=copy.source, indexed_at=copy.indexed_at)


def _key(record: VideoRecord) -> str:
    return source_key(record.uri, record.fingerprints.features)
