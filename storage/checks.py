"""``status``: what there is. ``verify``: whether it is what it should be."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.catalog import Catalog
from storage.manifest import is_as_written
from storage.pending import read_pending
from storage.records import FailureRecord, ModelRecord, Part, SegmentRecord, VideoRecord, one_per_content
from storage.row_checks import CHECKSUM, VECTOR, with_checksums
from storage.schemas import CATALOG, RETIRED, SEGMENT_COLUMNS, segment_record, segments_schema, segments_table
from storage.segment_states import complete_segments, read_states
from storage.status import LibraryStatus, ModelStatus, Problem
from storage.stores.base import LIBRARY_FILE, PARTS_FOLDER, TABLES_FOLDER, Store
from storage.sweep import file_last_needed, last_needed, retired_times, unreferenced_files, unreferenced_rows
from storage.table_checks import COPY, check_answers, reported
from storage.tables import Tables
from tempo_core.errors import LibraryError
from tempo_core.fingerprints import Fingerprints

_CHANGED = "is not what was written (its checksum differs)"


@dataclass
class _Tally:
    """What is counted of catalog rows, one after the other; a content counts once."""

    sources: int = 0
    segments: int = 0
    seconds: float = 0.0
    videos: set[str] = field(default_factory=set)

    def add(self, record: VideoRecord) -> None:
        self.sources += 1
        if record.video_id not in self.videos:
            self.videos.add(record.video_id)
            self.segments += record.segment_count
            self.seconds += record.facts.duration_s


def library_status(catalog: Catalog, failures: Sequence[FailureRecord]) -> LibraryStatus:
    """Counts and sizes; ``failures``: all that are recorded. Only ids and names of parts are held."""
    store, tables = catalog.store, catalog.tables
    whole, tallies = _Tally(), defaultdict[Fingerprints, _Tally](_Tally)
    frames: dict[str, int] = {}
    states: dict[str, int] = {}
    without_states: set[str] = set()
    for record in catalog.each():
        whole.add(record)
        tallies[record.fingerprints].add(record)
        frames[record.frames_part.path] = record.frames_part.size
        if record.states_part is None:
            without_states.add(record.video_id)
        else:
            states[record.states_part.path] = record.states_part.size
    unreferenced = (
        file.size for file in store.files(PARTS_FOLDER) if file.path not in frames and file.path not in states
    )
    manifest = catalog.manifest()
    models = [model for model in catalog.models() if model.fingerprints in tallies]
    return LibraryStatus(
        uri=store.uri,
        schema=manifest.schema,
        models=tuple(
            _model_status(model, model is models[0], tallies[model.fingerprints], failures) for model in models
        ),
        videos=len(whole.videos),
        hours=whole.seconds / 3600,
        frames_bytes=sum(frames.values()),
        states_bytes=sum(states.values()),
        tables_bytes=sum(file.size for file in store.files(TABLES_FOLDER)),
        unreferenced_bytes=sum(unreferenced),
        fragments=sum(tables.fragments(name) for name in tables.names()),
        pending=len(read_pending(store)),
        free_bytes=store.free_bytes(),
        keep=manifest.keep,
        states_budget=manifest.states_budget,
        without_states=len(without_states),
    )


def verify_library(catalog: Catalog, grace_s: float) -> list[Problem]:
    """Every part re-hashed, every generation's rows, states and features checked, and what refers to nothing.

    LibraryError where no catalog can be read: nothing can be held against it.
    """
    records, problems = catalog.records(), _check_manifest(catalog.store)
    with reported(problems, CATALOG):
        problems += _check_catalog_rows(catalog.tables)
    parts = {part.path: (part, record) for record in records for part in record.parts}
    for part, record in parts.values():
        problems += _check_part(catalog.store, part, record.video_id)
    for fingerprint, videos in _by_model(records).items():
        with reported(problems, table := segments_table(fingerprint)):
            problems += _check_generations(catalog, table, videos)
    problems += _check_copies(records) + check_answers(catalog, records)
    with reported(problems, RETIRED):
        problems += _dangling(catalog, grace_s)
    return problems


def _model_status(
    model: ModelRecord, is_default: bool, tally: _Tally, failures: Sequence[FailureRecord]
) -> ModelStatus:
    return ModelStatus(
        fingerprints=model.fingerprints,
        model_id=model.model_id,
        features_model=model.features_model,
        spec=model.spec,
        is_default=is_default,
        sources=tally.sources,
        videos=len(tally.videos),
        segments=tally.segments,
        hours=tally.seconds / 3600,
        failures=sum(failure.fingerprint == model.features for failure in failures),
    )


def _way_out(video_id: str) -> str:
    """By the id: a copy that stayed would lend the same part to the file that is indexed again."""
    return f"; `tempo remove {video_id[:12]}`, then index the video again"


def _check_manifest(store: Store) -> list[Problem]:
    return [] if is_as_written(store) else [Problem(LIBRARY_FILE, f"it {_CHANGED}; {COPY}")]


def _check_part(store: Store, part: Part, video_id: str) -> list[Problem]:
    digest, way_out = hashlib.sha256(), _way_out(video_id)
    try:
        for block in store.blocks(part.path):
            digest.update(block)
    except FileNotFoundError:
        return [Problem(part.path, f"the part is missing{way_out}")]
    except LibraryError as error:  # a link, a pipe
        return [Problem(part.path, f"{error}{way_out}")]
    if digest.hexdigest() == part.sha256:
        return []
    return [Problem(part.path, f"the part's bytes are not those that were written (SHA-256 differs){way_out}")]


def _check_catalog_rows(tables: Tables) -> list[Problem]:
    rows = tables.columns(CATALOG)
    changed = [] if rows is None else _changed(rows).to_pylist()
    return [Problem(row["uri"], f"its row in the catalog {_CHANGED}{_way_out(row['video_id'])}") for row in changed]


def _changed(rows: pa.Table) -> pa.Table:
    """Those rows that are not what was written."""
    return rows.filter(pc.not_equal(rows[CHECKSUM], with_checksums(rows)[CHECKSUM]))


def _by_model(records: Sequence[VideoRecord]) -> dict[str, list[VideoRecord]]:
    """One record of each content, by features fingerprint."""
    videos: dict[str, list[VideoRecord]] = defaultdict(list)
    for record in one_per_content(records):
        videos[record.fingerprints.features].append(record)
    return videos


def _check_generations(catalog: Catalog, table: str, videos: Sequence[VideoRecord]) -> list[Problem]:
    """The table is read once, however many videos it holds: a query for each took 0.2 s at a million rows."""
    rows, wrong = _SegmentTable(catalog.tables, table), _wrong_rows(catalog.tables, table)
    problems = []
    for record in videos:
        try:
            segments = complete_segments(record, rows.segments(record.generation))
            for segment in segments if record.states_part else ():
                read_states(catalog.store, record, [segment], verify=True)
        except LibraryError as error:
            problems.append(Problem(record.uri, str(error)))
        found = sorted(wrong.get(record.generation, ()))
        problems += [Problem(record.uri, f"segment {index} {what}{_way_out(record.video_id)}") for index, what in found]
    return problems


class _SegmentTable:
    """A segments table without its features, as Arrow columns ordered by generation."""

    def __init__(self, tables: Tables, name: str) -> None:
        rows = tables.columns(name, SEGMENT_COLUMNS)
        self._rows = segments_schema(1).empty_table() if rows is None else rows.sort_by("generation")
        names = self._rows["generation"].to_numpy()
        changes = np.flatnonzero(names[1:] != names[:-1]) + 1
        starts = [0, *changes.tolist()] if len(names) else []
        self._starts = {str(names[start]): (start, end) for start, end in pairwise([*starts, len(names)])}

    def segments(self, generation: str) -> list[SegmentRecord]:
        """The segments of a generation, in no order; none where it has no rows."""
        start, end = self._starts.get(generation, (0, 0))
        return [segment_record(row) for row in self._rows.slice(start, end - start).to_pylist()]


def _wrong_rows(tables: Tables, name: str) -> dict[str, list[tuple[int, str]]]:
    """By generation, the segments whose row is not what was written, or whose feature has no direction."""
    wrong: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for batch in tables.batches(name):
        vectors = batch[VECTOR]
        lengths = np.linalg.norm(vectors.flatten().to_numpy().reshape(len(vectors), -1), axis=1)
        rows = pa.Table.from_batches([batch])
        unusable = rows.filter(pa.array(~np.isfinite(lengths) | (lengths == 0)))
        for found, what in ((_changed(rows), _CHANGED), (unusable, "has no usable feature")):
            for row in found.select(["generation", "index"]).to_pylist():
                wrong[row["generation"]].append((row["index"], what))
    return wrong


def _check_copies(catalog: Sequence[VideoRecord]) -> list[Problem]:
    """A content has one generation per model, and a source one row."""
    problems = []
    generations = {(record.video_id, record.fingerprints.features): record.generation for record in catalog}
    seen: set[tuple[str, str]] = set()
    for record in catalog:
        features = record.fingerprints.features
        if generations[record.video_id, features] != record.generation:
            problems.append(Problem(record.uri, "copies of one content stand on different generations"))
        if (record.uri, features) in seen:
            problems.append(Problem(record.uri, "the source is in the catalog twice"))
        seen.add((record.uri, features))
    return problems


def _dangling(catalog: Catalog, grace_s: float) -> list[Problem]:
    """What no video refers to and no run or reader can still need."""
    oldest, times = time.time() - grace_s, retired_times(catalog.tables)
    files = [
        Problem(file.path, "no video refers to this file; `tempo prune` removes it")
        for file in unreferenced_files(catalog)
        if file_last_needed(file, times) <= oldest
    ]
    rows = [
        Problem(segments_table(fingerprint), f"rows of generation {generation}, which no video refers to")
        for fingerprint, generations in unreferenced_rows(catalog).items()
        for generation in generations
        if last_needed(generation, times) <= oldest
    ]
    return files + rows
