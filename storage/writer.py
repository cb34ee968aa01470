"""The one writer of a library. One upsert of the catalog is the commit that makes a video visible."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import TracebackType

import pyarrow as pa

from storage.catalog import LOST_CATALOG, Catalog
from storage.filters import one_of
from storage.generations import part_generation
from storage.held_catalog import HeldCatalog
from storage.manifest import Manifest, write_manifest
from storage.pending import write_pending
from storage.records import Content, FailureRecord, ModelRecord, Source, StagedVideo, VideoRecord
from storage.schemas import (
    CATALOG,
    FAILURES,
    failure_row,
    segment_rows,
    segments_table,
    source_key,
    video_row,
)
from storage.state_budget import DroppedStates, drop_over_budget
from storage.stores.lease import Lease
from storage.sweep import DEFAULT_GRACE_S, compact_tables, note_retired, optimize_tables, sweep
from tempo_core.errors import LibraryError, NoSpace, UsageError
from tempo_core.fingerprints import Fingerprints
from tempo_core.spec import Keep

COMPACT_AFTER = 50  # commits of one run: each costs half a millisecond more for each commit since


class Writer:
    """Holds the lease; use it as ``with library.writer() as writer``. Not for several threads at once."""

    def __init__(self, catalog: Catalog, lease: Lease, manifest: Manifest) -> None:
        self._catalog, self._lease = catalog, lease
        self._manifest = manifest  # only the holder of the lease changes it
        self._store, self._tables = catalog.store, catalog.tables
        self._held = HeldCatalog(catalog.tables)
        self._commits = 0

    def find_content(self, video_id: str, fingerprints: Fingerprints) -> Content | None:
        """What is committed of this content that these fingerprints can use; None if nothing."""
        records = self._held.of_video(video_id)
        committed = (record for record in records if record.fingerprints == fingerprints)
        stored = (record for record in records if record.states_part is not None)
        states = (record for record in stored if record.fingerprints.states == fingerprints.states)
        frames = (record for record in records if record.fingerprints.frames == fingerprints.frames)
        first = [next(matching, None) for matching in (committed, states, frames)]
        return Content(video_id, *first) if any(first) else None

    def commit(self, *videos: StagedVideo) -> list[VideoRecord]:
        """Make staged contents visible under their sources, and move all copies of each to it, in one commit.

        ValueError, and nothing done, where two of ``videos`` are one content or have one source. NoSpace where there is
        no room for the rows of their segments; then nothing of them stays.
        """
        for what in ({video.content.video_id for video in videos}, {video.source.uri for video in videos}):
            if len(what) < len(videos):
                raise ValueError(f"of {len(videos)} videos of one commit only {len(what)} are different")
        records = [_committed(video) for video in videos]
        for video in videos:
            fingerprints, facts = video.content.fingerprints, video.facts
            self._keep_model(ModelRecord(fingerprints, facts.model_id, facts.spec, video.features_model))
        self._lease.check()
        try:
            for name, rows in _segment_rows(videos).items():
                self._tables.add(name, rows)
        except NoSpace:
            self._remove_parts(records)
            raise
        self._upsert(*records)
        return records

    def commit_copy(self, source: Source, content: Content) -> VideoRecord:
        """Another source of a committed content: a row of the catalog, nothing else."""
        if content.committed is None:
            raise ValueError(f"{content.video_id} is not committed under these fingerprints")
        record = replace(content.committed, source=source, indexed_at=time.time())
        self._upsert(record)
        return record

    def record_failure(self, source: Source, fingerprint: str, reason: str, step: str) -> FailureRecord:
        """Remember that this source cannot be indexed under a features fingerprint, and how often it was tried."""
        self._lease.check()
        attempts = 1 + self._held.attempts(source.uri, fingerprint)
        record = FailureRecord(source, fingerprint, reason, step, attempts, time.time())
        self._tables.upsert(FAILURES, [failure_row(record)])
        self._held.failed(source.uri, fingerprint, attempts)
        self._count_commit()
        return record

    def forget_failure(self, uri: str, fingerprint: str) -> None:
        """Drop the failure of a source, if there is one; a commit of the source does so by itself."""
        self._lease.check()
        if self._held.attempts(uri, fingerprint):
            self._tables.delete(FAILURES, "key", [source_key(uri, fingerprint)])
            self._held.failed(uri, fingerprint, 0)

    def remove(self, uris: Sequence[str]) -> list[VideoRecord]:
        """Take sources out of the catalog under every model, with their failures; copies under other URIs stay.

        The rows that were removed, none for a source that only ever failed; UsageError, and nothing changed, if one
        URI is not in the library.
        """
        self._lease.check()
        if not uris:
            return []
        where = one_of("uri", uris)
        records = self._catalog.rows(where)
        known = {record.uri for record in records} | {row["uri"] for row in self._tables.rows(FAILURES, where, ["uri"])}
        for uri in uris:
            if uri not in known:
                raise UsageError(f"{uri} is not in {self._store.uri}")
        self._held.forget()
        self._retire(records)
        self._tables.delete(CATALOG, "uri", uris)
        self._tables.delete(FAILURES, "uri", uris)
        return records

    def set_default(self, fingerprint: str) -> None:
        """Serve this model from now on; UsageError unless the library holds videos of it."""
        self._lease.check()
        if fingerprint not in self._held.models():
            raise UsageError(f"{self._store.uri} holds no videos under {fingerprint}")
        self._write_manifest(replace(self._manifest, default=fingerprint))

    def set_keep(self, keep: Keep) -> None:
        """What later runs keep of a video unless they are told."""
        self._write_manifest(replace(self._manifest, keep=keep))

    def set_states_budget(self, budget: int | None) -> None:
        """So many bytes of states may be kept from now on, None for any number; ``keep_to_budget`` drops the rest."""
        self._write_manifest(replace(self._manifest, states_budget=budget))

    def keep_to_budget(self) -> DroppedStates:
        """Drop the states that were asked about least recently, until the library's budget holds the rest.

        Frames and features stay, so nothing else changes for who asks. Readers of before have the grace period to
        read the parts in; then ``prune`` frees them.
        """
        if self._manifest.states_budget is None:
            return DroppedStates(0, 0)
        self._lease.check()
        self._held.forget()
        return drop_over_budget(self._catalog, self._manifest.states_budget, self._lease.check)

    def set_pending(self, uris: Sequence[str]) -> None:
        """Record what a run left undone, in this order; it replaces what was recorded before."""
        self._lease.check()
        write_pending(self._store, uris)

    def prune(self, grace_s: float = DEFAULT_GRACE_S) -> int:
        """Sweep what no row of the catalog refers to and that is older than ``grace_s``; the bytes freed.

        LibraryError, and nothing swept, where the catalog is lost: then no row refers to any part.
        """
        self._lease.check()
        if self._catalog.is_lost():
            raise LibraryError(f"{self._store.uri}: {LOST_CATALOG}")
        return sweep(self._catalog, grace_s)

    def optimize(self) -> None:
        """Compact the tables, and index the features where there are enough of them. Once after each run."""
        self._lease.check()
        optimize_tables(self._tables, DEFAULT_GRACE_S, self._store.exclusive)
        self._held.compacted()

    def close(self) -> None:
        """Give the lease back."""
        self._lease.release()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _upsert(self, *new: VideoRecord) -> None:
        """THE commit. All before it is invisible, all after it is cleaning up."""
        given_up, moved = self._held.replaced_by(new)
        self._retire(given_up)
        for record in new:  # before, so that a kill in between only has it tried again
            self.forget_failure(record.uri, record.fingerprints.features)
        self._lease.check()
        records = [*new, *moved]
        version = self._tables.upsert(CATALOG, map(video_row, records))
        self._held.committed(records, version)
        self._count_commit()

    def _remove_parts(self, records: Iterable[VideoRecord]) -> None:
        """Of records that are not to be committed: the parts that are their own."""
        for record in records:
            for part in record.parts:
                if part_generation(part.path) == record.generation:
                    self._store.delete(part.path)

    def _count_commit(self) -> None:
        """Compact every so many commits: each costs more the more fragments and versions the tables have."""
        self._commits += 1
        if self._commits % COMPACT_AFTER == 0:
            self._lease.check()
            compact_tables(self._tables, self._store.exclusive)
            self._held.compacted()

    def _retire(self, records: Iterable[VideoRecord]) -> None:
        """Note when a generation is given up, before it is: readers may stand on it for a grace period after."""
        names: set[str] = set()
        for record in records:
            names.add(record.generation)
            names |= {part_generation(part.path) or record.generation for part in record.parts}
        note_retired(self._tables, names)

    def _keep_model(self, model: ModelRecord) -> None:
        """The manifest lists a model, and the first with a video becomes the default, before that video is visible."""
        manifest, models = self._manifest, self._held.models()
        if model in manifest.models and manifest.default in models:
            return
        self._tables.ensure(CATALOG)  # before a default is set: ``Catalog.is_lost`` relies on it
        default = manifest.default if manifest.default in models else next(iter(models), model.features)
        listed = {known.features: known for known in manifest.models} | {model.features: model}
        self._write_manifest(replace(manifest, default=default, models=tuple(listed.values())))

    def _write_manifest(self, manifest: Manifest) -> None:
        if manifest != self._manifest:
            self._lease.check()
            write_manifest(self._store, manifest)
            self._manifest = manifest


def _committed(video: StagedVideo) -> VideoRecord:
    """The row of the catalog that makes a staged video visible."""
    staged = video.content
    return VideoRecord(
        source=video.source,
        video_id=staged.video_id,
        generation=staged.generation,
        fingerprints=staged.fingerprints,
        facts=video.facts,
        frames_part=staged.frames_part,
        states_part=staged.states_part,
        segment_count=len(staged.segments),
        frame_count=staged.frame_count,
        indexed_at=time.time(),
    )


def _segment_rows(videos: Sequence[StagedVideo]) -> dict[str, pa.Table]:
    """The rows of all their segments, by table."""
    rows: dict[str, list[pa.Table]] = {}
    for video in videos:
        staged = video.content
        own = segment_rows(staged.segments, staged.features, video.facts.start_s)
        rows.setdefault(segments_table(staged.fingerprints.features), []).append(own)
    return {name: pa.concat_tables(tables) for name, tables in rows.items()}
