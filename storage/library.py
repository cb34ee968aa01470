"""A library, for those who read it; ``writer()`` is the way to change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa

from storage.checks import library_status, verify_library
from storage.frame_part import read_frames
from storage.manifest import Manifest, check_schema, create_or_upgrade, read_manifest
from storage.named_videos import select_videos
from storage.pending import read_pending
from storage.records import (
    FailureRecord,
    FeatureArray,
    LibraryStatus,
    Problem,
    SegmentHit,
    SegmentRecord,
    VideoRecord,
)
from storage.schemas import CATALOG, FAILURES, failure_record
from storage.search import search_segments
from storage.segment_states import read_states, segment_records, segment_records_of, wanted_segments
from storage.stores import open_store
from storage.stores.base import TABLES_FOLDER, Store
from storage.sweep import DEFAULT_GRACE_S, LOST_CATALOG, catalog_is_lost, catalog_records
from storage.tables import Tables, quoted
from storage.video_writer import VideoWriter
from storage.writer import Writer
from tempo_core.errors import CorruptPart
from tempo_core.fingerprints import Fingerprints
from tempo_core.values import ByteArray, SegmentState

ALL_MODELS = "*"


class Library:
    """Read access to a library. Every call sees the newest commit. Open one per process (``open_library``)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tables = Tables(store)
        self._seen: tuple[int | None, list[VideoRecord]] = (None, [])

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.store.uri

    def manifest(self) -> Manifest:
        """Schema version, creation time and the default that was set."""
        return read_manifest(self.store)

    def fingerprints(self) -> list[Fingerprints]:
        """The chains that videos are committed under: the default first, then by first commit."""
        return self._chains(self._catalog())

    def default_fingerprint(self) -> str | None:
        """The features fingerprint that is served unless another is asked for; None for an empty library."""
        return next((chain.features for chain in self.fingerprints()), None)

    def videos(self, fingerprint: str | None = None, select: Sequence[str] = ()) -> list[VideoRecord]:
        """The catalog of one model (None: the default, ``ALL_MODELS``: every one), ordered by URI.

        ``select`` keeps what is named by URI, by the beginning of the video id (6 hex digits or more), by title or by
        file name, in the order named; UsageError for a name that fits nothing, or different videos.
        """
        catalog = self._catalog()
        if fingerprint is None:
            fingerprint = next((chain.features for chain in self._chains(catalog)), None)
        records = [one for one in catalog if fingerprint in {ALL_MODELS, one.fingerprints.features}]
        return select_videos(records, select, self.uri) if select else records

    def failures(self, fingerprint: str | None = None) -> list[FailureRecord]:
        """The recorded failures, of one features fingerprint or (None) all, ordered by URI."""
        where = f"fingerprint = {quoted(fingerprint)}" if fingerprint else None
        records = [failure_record(row) for row in self.tables.rows(FAILURES, where)]
        return sorted(records, key=lambda record: (record.source.uri, record.fingerprint))

    def pending(self) -> list[str]:
        """URIs that the last runs left undone, first those that are to go first."""
        return read_pending(self.store)

    def segments(self, video: VideoRecord) -> list[SegmentRecord]:
        """The video's segments in order: a plain filter, no vector search."""
        return segment_records(self.tables, video)

    def segments_of(self, videos: Sequence[VideoRecord]) -> list[list[SegmentRecord]]:
        """The segments of each of ``videos``, in one query."""
        return segment_records_of(self.tables, videos)

    def read_states(
        self,
        video: VideoRecord,
        indices: Sequence[int] | None = None,
        into: ByteArray | None = None,
        verify: bool = False,
        segments: Sequence[SegmentRecord] | None = None,
    ) -> list[SegmentState]:
        """The states of all segments (or ``indices``, in that order), as views of one buffer without gaps.

        ``into``: a writable contiguous uint8 buffer to fill instead, pinned memory say. ``segments``: what
        ``segments(video)`` gave before, to save asking again. ``verify`` compares each segment's checksum, at a third
        of the speed: off by default because disks and S3 check their own blocks; ``tempo verify`` checks all.
        CorruptPart names a part that is missing, too short or does not match.
        """
        chosen = wanted_segments(self.segments(video) if segments is None else segments, indices)
        return read_states(self.store, video, chosen, into, verify)

    def read_frames(
        self, video: VideoRecord, indices: Sequence[int] | None = None
    ) -> Iterator[tuple[int, list[bytes], list[float]]]:
        """(segment index, JPEGs, presentation times in seconds) of all segments or of ``indices``."""
        path = video.frames_part.path
        try:
            with self.store.open(path) as file:
                yield from read_frames(file, indices)
        except FileNotFoundError:
            raise CorruptPart(f"{self.uri}/{path} is missing; `tempo verify` tells what else is") from None
        except pa.ArrowException as error:
            raise CorruptPart(f"{self.uri}/{path}: {error}; remove the video and index it again") from error

    def search(
        self,
        vector: FeatureArray,
        fingerprint: str | None = None,
        limit: int = 32,
        videos: Sequence[VideoRecord] | None = None,
    ) -> list[SegmentHit]:
        """The ``limit`` segments nearest to ``vector`` (float32 [D]) by cosine, best first, of all videos or some.

        Only committed segments; fewer than ``limit`` only where there are no more.
        """
        wanted = fingerprint or self.default_fingerprint()
        if wanted is None:
            return []
        catalog = self.videos(wanted) if videos is None else videos
        return search_segments(self.tables, wanted, vector, limit, catalog, some=videos is not None)

    def stage(self, video_id: str, prints: Fingerprints) -> VideoWriter:
        """A video writer for who does not hold the lease: ``finish()`` it and send the result to who does."""
        return VideoWriter(self.store, self.tables, video_id, prints)

    def writer(self, wait_s: float = 0.0) -> Writer:
        """Take the lease and write; LibraryBusy names the holder if it is not free within ``wait_s`` seconds."""
        lease = self.store.lease()
        lease.acquire(wait_s)
        return Writer(self, lease)

    def _catalog(self) -> list[VideoRecord]:
        """All rows of the newest commit, ordered by URI; read again only when there is a newer one."""
        version = self.tables.version(CATALOG)
        if version is None or version != self._seen[0]:
            records = catalog_records(self.tables)
            records.sort(key=lambda record: (record.uri, record.fingerprints.features))
            self._seen = (version, records)  # asked before they were read: never taken for newer than they are
        return self._seen[1]

    def _chains(self, catalog: Sequence[VideoRecord]) -> list[Fingerprints]:
        by_time = sorted(catalog, key=lambda record: record.indexed_at)
        chains = list(dict.fromkeys(record.fingerprints for record in by_time))
        default = self.manifest().default
        return sorted(chains, key=lambda chain: chain.features != default)

    def status(self) -> LibraryStatus:
        """Counts and sizes."""
        return library_status(self.store, self.tables, self.manifest(), self.failures(), self.fingerprints())

    def verify(
        self, progress: Callable[[str, int], None] | None = None, grace_s: float = DEFAULT_GRACE_S
    ) -> list[Problem]:
        """Read everything and compare: hashes, counts, features, what refers to nothing.

        ``progress(path, bytes)`` is called for each part that was read. What nothing refers to is a problem once it
        is older than ``grace_s``: before, a run may be about to commit it, or a reader be at it.
        """
        lost = catalog_is_lost(self.manifest().default, self.tables)
        problems = [Problem(f"{TABLES_FOLDER}/{CATALOG}", LOST_CATALOG)] if lost else []
        return problems + verify_library(self.store, self.tables, catalog_records(self.tables), progress, grace_s)


def open_library(uri: str, create: bool = False, storage_options: Mapping[str, str] | None = None) -> Library:
    """The library at a local path or ``s3://bucket/prefix``.

    ``create``: make it if there is none, and bring an older schema up to date. ``storage_options``: LanceDB's names
    for S3 (aws_endpoint, aws_region, aws_access_key_id, aws_secret_access_key, aws_session_token); what is not given
    comes from the environment. LibraryNotFound, or SchemaError where the schema does not fit.
    """
    store = open_store(uri, storage_options)
    if create:
        create_or_upgrade(store)
    check_schema(store, read_manifest(store))
    return Library(store)
