"""A library, for those who read it; ``writer()`` is the way to change it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from storage.asked import mark_asked
from storage.catalog import LOST_CATALOG, Catalog
from storage.checks import library_status, verify_library
from storage.filters import quoted
from storage.frame_part import read_frames
from storage.manifest import Manifest, check_schema, create_or_upgrade, read_manifest, upgrade
from storage.name_resolution import folder_beginnings, named_sources, named_videos
from storage.pending import read_pending
from storage.records import FailureRecord, FeatureArray, ModelRecord, SegmentHit, SegmentRecord, TimeRange, VideoRecord
from storage.schemas import CATALOG, FAILURES, failure_record, segments_table
from storage.search import search_segments
from storage.segment_states import read_states, segment_records, segment_records_of, segments_at
from storage.status import LibraryStatus, Problem
from storage.stores import open_store
from storage.stores.base import TABLES_FOLDER, Store
from storage.sweep import DEFAULT_GRACE_S
from storage.tables import Tables
from storage.video_writer import VideoWriter
from storage.writer import Writer
from tempo_core.errors import CorruptPart
from tempo_core.fingerprints import Fingerprints
from tempo_core.spec import Keep
from tempo_core.values import SegmentState

ALL_MODELS = "*"
EVER = TimeRange()


class Library:
    """Read access to a library. Every call sees the newest commit. Open one per process (``open_library``)."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @property
    def uri(self) -> str:
        return self._catalog.store.uri

    @property
    def store(self) -> Store:
        return self._catalog.store

    @property
    def tables(self) -> Tables:
        return self._catalog.tables

    def default_fingerprint(self) -> str | None:
        """The features fingerprint that is served unless another is asked for; None for an empty library."""
        return self._catalog.default_fingerprint()

    def models(self) -> list[ModelRecord]:
        """The models that videos were committed under: the default first, then by first commit.

        All videos of one may have been removed since (``has_videos``). The catalog is not read for it.
        """
        return self._catalog.models()

    def default_model(self) -> ModelRecord | None:
        """The model that is served unless another is asked for; None for an empty library."""
        return self._catalog.default_model()

    def manifest(self) -> Manifest:
        """What the library was told: among others what runs keep, and the budget of its states."""
        return self._catalog.manifest()

    def has_videos(self, fingerprint: str, folder: str | None = None) -> bool:
        """Whether a video is committed under a features fingerprint, below ``folder`` if one is given."""
        return self._catalog.has_videos(fingerprint, folder_beginnings(folder))

    def segment_count(self, fingerprint: str) -> int:
        """At most so many segments are committed under a features fingerprint: the table's rows, counted at no cost."""
        return self.tables.count(segments_table(fingerprint))

    def videos(
        self, fingerprint: str | None = None, select: Sequence[str] = (), folder: str | None = None
    ) -> list[VideoRecord]:
        """The catalog of one model (None: the default, ``ALL_MODELS``: every one), ordered by URI.

        ``select`` keeps what is named by URI, by the beginning of the video id (6 hex digits or more), by title or by
        file name, in the order named; UsageError for a name that fits nothing, or different videos. ``folder`` (or S3
        prefix) keeps what lies below it.
        """
        beginnings = folder_beginnings(folder)
        if not select and fingerprint != ALL_MODELS:
            return self._catalog.videos(fingerprint, beginnings)
        model = None if fingerprint == ALL_MODELS else fingerprint or self.default_fingerprint() or ""
        records = named_videos(self._catalog, model, select) if select else self._catalog.records()
        return [record for record in records if not beginnings or record.uri.startswith(beginnings)]

    def each_video(self) -> Iterator[VideoRecord]:
        """The same as ``videos(ALL_MODELS)``, in no order: read while it is gone through, and not held."""
        return self._catalog.each()

    def sources(self, names: Sequence[str]) -> list[str]:
        """The URIs of the sources that ``names`` mean, under any model, those that only ever failed among them.

        A URI means that source alone, an id, a title or a file name all copies of a content; UsageError for a name
        that fits nothing, or different videos. Only rows that fit a name are read.
        """
        return named_sources(self._catalog, names)

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
        verify: bool = False,
        segments: Sequence[SegmentRecord] | None = None,
    ) -> list[SegmentState]:
        """The states of all segments (or ``indices``, in that order), as views of one buffer without gaps.

        ``segments``: what ``segments(video)`` gave before, to save asking again. ``verify`` compares each segment's
        checksum, at a third of the speed: off by default because disks and S3 check their own blocks; ``tempo verify``
        checks all. CorruptPart names a part that is missing, too short or does not match; LibraryError where only
        frames are kept.
        """
        records = segments_at(self.segments(video) if segments is None else segments, indices)
        return read_states(self.store, video, records, verify)

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
        except (pa.ArrowException, OSError) as error:  # OSError: Arrow's too, of a file that is not Parquet any more
            raise CorruptPart(f"{self.uri}/{path}: {error}; remove the video and index it again") from error

    def search(
        self,
        vector: FeatureArray,
        fingerprint: str | None = None,
        limit: int = 32,
        videos: Sequence[VideoRecord] | None = None,
        times: TimeRange = EVER,
        folder: str | None = None,
    ) -> list[SegmentHit]:
        """The ``limit`` segments nearest to ``vector`` (float32 [D]) by cosine, best first.

        Among ``videos`` of the fingerprint (None: the default), or among all that lie below ``folder`` (None:
        anywhere), and within ``times``. Only committed segments; fewer than ``limit`` only where there are no more.
        """
        fingerprint = fingerprint or self.default_fingerprint()
        if fingerprint is None:
            return []
        beginnings = folder_beginnings(folder)
        return search_segments(self._catalog, fingerprint, vector, limit, videos, times, beginnings)

    def mark_asked(self, video_ids: Iterable[str]) -> None:
        """Note that videos are asked about, where a budget of states goes by it. Best effort; no lease is needed."""
        if self.manifest().states_budget is not None:
            mark_asked(self.store, video_ids)

    def stage(self, video_id: str, fingerprints: Fingerprints, keep: Keep = "states") -> VideoWriter:
        """A writer of one video, which needs no lease: ``finish()`` it, and let a ``Writer`` commit the result."""
        return VideoWriter(self.store, self.tables, video_id, fingerprints, keep)

    def writer(self, wait_s: float = 0.0) -> Writer:
        """Take the lease and write; LibraryBusy names the holder if it is not free within ``wait_s`` seconds."""
        lease = self.store.lease()
        lease.acquire(wait_s)
        try:
            manifest = upgrade(self.store)  # from a schema that is read as it is
        except BaseException:
            lease.release()
            raise
        return Writer(self._catalog, lease, manifest)

    def status(self) -> LibraryStatus:
        return library_status(self._catalog, self.failures())

    def verify(self, grace_s: float = DEFAULT_GRACE_S) -> list[Problem]:
        """Read everything and compare: hashes, counts, features, what refers to nothing.

        What nothing refers to is a problem once it is older than ``grace_s``: before, a run may be about to commit it,
        or a reader be at it.
        """
        lost = [Problem(f"{TABLES_FOLDER}/{CATALOG}", LOST_CATALOG)] if self._catalog.is_lost() else []
        return lost + verify_library(self._catalog, grace_s)


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
    return Library(Catalog(store))
