"""``status``: what there is. ``verify``: whether it is what it should be."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence

import numpy as np

from storage.catalog import Catalog
from storage.generations import part_generation
from storage.pending import read_pending
from storage.records import FailureRecord, LibraryStatus, ModelStatus, Part, Problem, VideoRecord, one_per_content
from storage.schemas import segments_table
from storage.segment_states import read_states, segment_records
from storage.stores.base import TABLES_FOLDER, Store
from storage.sweep import last_needed, retired_times, unreferenced_files, unreferenced_rows
from storage.tables import Tables, quoted
from tempo_core.errors import LibraryError
from tempo_core.fingerprints import Fingerprints


def library_status(catalog: Catalog, failures: Sequence[FailureRecord]) -> LibraryStatus:
    """Counts and sizes; ``failures``: all that are recorded."""
    store, tables, records, chains = catalog.store, catalog.tables, catalog.records(), catalog.fingerprints()
    contents = {record.video_id: record for record in records}
    return LibraryStatus(
        uri=store.uri,
        schema=catalog.manifest().schema,
        models=tuple(_model_status(chain, chain is chains[0], records, failures) for chain in chains),
        videos=len(contents),
        hours=sum(record.facts.duration_s for record in contents.values()) / 3600,
        frames_bytes=_part_bytes(record.frames_part for record in records),
        states_bytes=_part_bytes(record.states_part for record in records),
        tables_bytes=sum(file.size for file in store.files(TABLES_FOLDER)),
        unreferenced_bytes=sum(file.size for file in unreferenced_files(catalog)),
        fragments=sum(tables.fragments(name) for name in tables.names()),
        pending=len(read_pending(store)),
        free_bytes=store.free_bytes(),
    )


def verify_library(catalog: Catalog, grace_s: float) -> list[Problem]:
    """Every part re-hashed, every generation's rows, states and features checked, and what refers to nothing."""
    problems, records = [], catalog.records()
    parts = {part.path: (part, record) for record in records for part in (record.frames_part, record.states_part)}
    for part, record in parts.values():
        problems += _check_part(catalog.store, part, record.video_id)
    for record in one_per_content(records):
        problems += _check_generation(catalog.store, catalog.tables, record)
    return problems + _check_copies(records) + _dangling(catalog, grace_s)


def _model_status(
    chain: Fingerprints, is_default: bool, catalog: Sequence[VideoRecord], failures: Sequence[FailureRecord]
) -> ModelStatus:
    records = [record for record in catalog if record.fingerprints == chain]
    contents = one_per_content(records)
    return ModelStatus(
        fingerprints=chain,
        model_id=records[-1].facts.model_id,
        spec=records[-1].facts.spec,
        is_default=is_default,
        sources=len(records),
        videos=len(contents),
        segments=sum(record.segment_count for record in contents),
        hours=sum(record.facts.duration_s for record in contents) / 3600,
        failures=sum(failure.fingerprint == chain.features for failure in failures),
    )


def _part_bytes(parts: Iterable[Part]) -> int:
    return sum({part.path: part.size for part in parts}.values())


def _check_part(store: Store, part: Part, video_id: str) -> list[Problem]:
    """The way out takes the id: a copy that stayed would lend the same part to the file that is indexed again."""
    digest, way_out = hashlib.sha256(), f"; `tempo remove {video_id[:12]}`, then index the video again"
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


def _check_generation(store: Store, tables: Tables, record: VideoRecord) -> list[Problem]:
    problems = []
    try:
        for segment in segment_records(tables, record):
            read_states(store, record, [segment], verify=True)
    except LibraryError as error:
        problems.append(Problem(record.uri, str(error)))
    where = f"generation = {quoted(record.generation)}"
    rows = tables.rows(segments_table(record.fingerprints.features), where, ["index", "vector"])
    for row in rows:
        length = float(np.linalg.norm(np.asarray(row["vector"], np.float32)))
        if not np.isfinite(length) or length == 0:
            problems.append(Problem(record.uri, f"segment {row['index']} has no usable feature"))
    return problems


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
        if last_needed(part_generation(file.path) or "", times, file.modified) <= oldest
    ]
    rows = [
        Problem(segments_table(fingerprint), f"rows of generation {generation}, which no video refers to")
        for fingerprint, generations in unreferenced_rows(catalog).items()
        for generation in generations
        if last_needed(generation, times) <= oldest
    ]
    return files + rows
