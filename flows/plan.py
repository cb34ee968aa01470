"""What a run has to do: each source against the catalog, without opening a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flows.result import IndexResult, committed
from storage.records import FailureRecord, Source, VideoRecord

# Stages of failures that are not the file's: the source may be there again, the memory free. Tried each time.
FETCH, MEMORY = "fetch", "memory"


@dataclass(frozen=True)
class Task:
    """A source to index.

    ``known``: the same file as committed under another model or spec, so its content is known. ``before``: what the
    library has under this name and model; the file has been written to since.
    """

    source: Source
    known: VideoRecord | None = None
    before: VideoRecord | None = None


@dataclass(frozen=True)
class Plan:
    """``settled`` needs no work; ``tasks`` do, in the order of the sources."""

    settled: tuple[IndexResult, ...]
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Known:
    """The catalog as a plan needs it: rows of all models, and this model's failures."""

    records: Sequence[VideoRecord]
    failures: Sequence[FailureRecord]
    fingerprint: str


def make_plan(found: Sequence[Source], known: Known, roots: Sequence[str], retry_failed: bool = False) -> Plan:
    """Sort ``found`` into unchanged, failed before, and to do; catalog rows below ``roots`` not found are gone.

    A file is unchanged if size and modification time (or ETag) are those of the catalog: it is not opened.
    """
    mine = {record.uri: record for record in known.records if record.fingerprints.features == known.fingerprint}
    others = {record.uri: record for record in known.records if record.fingerprints.features != known.fingerprint}
    failed = {} if retry_failed else {failure.source.uri: failure for failure in known.failures}
    settled: list[IndexResult] = []
    tasks: list[Task] = []
    for source in found:
        result = _settled(source, mine.get(source.uri), failed.get(source.uri))
        if result is not None:
            settled.append(result)
        else:
            tasks.append(Task(source, _same(source, others.get(source.uri)), mine.get(source.uri)))
    return Plan((*settled, *_gone(mine.values(), found, roots)), tuple(tasks))


def _settled(source: Source, record: VideoRecord | None, failure: FailureRecord | None) -> IndexResult | None:
    if record is not None and _same(source, record):
        return committed("unchanged", record)
    if failure is not None and failure.stage not in {FETCH, MEMORY} and _stamp(source) == _stamp(failure.source):
        return IndexResult(source.uri, "failed-before", reason=failure.reason)
    return None


def _same(source: Source, record: VideoRecord | None) -> VideoRecord | None:
    return record if record is not None and _stamp(source) == _stamp(record.source) else None


def _stamp(source: Source) -> tuple[int, str]:
    return source.size, source.modified


def _gone(records: Iterable[VideoRecord], found: Sequence[Source], roots: Sequence[str]) -> list[IndexResult]:
    there = {source.uri for source in found}
    return [
        IndexResult(
            record.uri, "gone", record.video_id, reason="the file is no longer there; `tempo remove` forgets it"
        )
        for record in records
        if record.uri not in there and any(record.uri.startswith(root) for root in roots)
    ]
