"""What a run has to do: each source against the catalog, without opening a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flows.failure import FETCH, MEMORY
from flows.result import IndexResult, committed
from flows.run.discovery import Found
from storage.records import FailureRecord, Source, VideoRecord

Why = Literal["new", "changed", "other model", "asked again", "tried again"]


@dataclass(frozen=True)
class Task:
    """A source to index.

    ``known``: the same file as committed under another model or spec, so its content is known. ``before``: what the
    library has under this name and model; the file has been written to since. ``why`` it is to be read: "asked again"
    for a failure that was to be retried, "tried again" for one that was not the file's fault.
    """

    source: Source
    known: VideoRecord | None = None
    before: VideoRecord | None = None
    why: Why = "new"


@dataclass(frozen=True)
class Plan:
    """``settled`` needs no work; ``tasks`` do, in this order.

    ``waiting``: URIs that are left for a later run whatever becomes of the tasks: files still being written, and what
    earlier runs left of sources that this one was not asked for.
    """

    settled: tuple[IndexResult, ...]
    tasks: tuple[Task, ...]
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """The library as a plan needs it: rows of all models, this model's failures, and what was left undone before."""

    records: Sequence[VideoRecord]
    failures: Sequence[FailureRecord]
    fingerprint: str
    pending: Sequence[str] = ()


def make_plan(found: Found, known: Known, retry_failed: bool = False) -> Plan:
    """Sort ``found`` into unchanged, failed before, still being written, and to do; catalog rows not found are gone.

    A file is unchanged if size and modification time (or ETag) are those of the catalog: it is not opened. What earlier
    runs left undone goes first, in their order, then the rest by URI.
    """
    mine = {record.uri: record for record in known.records if record.fingerprints.features == known.fingerprint}
    others = {record.uri: record for record in known.records if record.fingerprints.features != known.fingerprint}
    failed = {failure.source.uri: failure for failure in known.failures}
    settled: list[IndexResult] = []
    tasks: list[Task] = []
    for source in found.sources:
        before, failure = mine.get(source.uri), failed.get(source.uri)
        result = _settled(source, before, None if retry_failed else failure)
        if result is not None:
            settled.append(result)
        else:
            tasks.append(_task(source, before, failure, others.get(source.uri)))
    settled += [_waits(one.source, mine, one.reason) for one in found.unsettled]
    return Plan(
        settled=(*settled, *_gone(mine.values(), found)),
        tasks=tuple(_in_order(tasks, known.pending)),
        waiting=(*_elsewhere(known.pending, found), *(one.uri for one in settled if one.status == "pending")),
    )


def _settled(source: Source, record: VideoRecord | None, failure: FailureRecord | None) -> IndexResult | None:
    if record is not None and _same(source, record):
        return committed("unchanged", record)
    if failure is not None and not _passes(failure) and _stamp(source) == _stamp(failure.source):
        return IndexResult(source.uri, "failed-before", reason=failure.reason)
    return None


def _passes(failure: FailureRecord) -> bool:
    """Not the file's fault: the source may be there again, the memory free. Tried each time."""
    return failure.step in {FETCH, MEMORY}


def _task(source: Source, before: VideoRecord | None, failure: FailureRecord | None, other: VideoRecord | None) -> Task:
    """``other``: the source as the library has it under another model."""
    why: Why = "other model" if other is not None else "new"
    if failure is not None and _stamp(source) == _stamp(failure.source):
        why = "tried again" if _passes(failure) else "asked again"
    elif before is not None or failure is not None:
        why = "changed"
    return Task(source, _same(source, other), before, why)


def _waits(source: Source, mine: Mapping[str, VideoRecord], reason: str) -> IndexResult:
    """A file that is still being written; one that is in the library as it is now was settled before."""
    record = _same(source, mine.get(source.uri))
    return committed("unchanged", record) if record is not None else IndexResult(source.uri, "pending", reason=reason)


def _in_order(tasks: Iterable[Task], first: Sequence[str]) -> list[Task]:
    rank = {uri: at for at, uri in enumerate(first)}
    return sorted(tasks, key=lambda task: (rank.get(task.source.uri, len(rank)), task.source.uri))


def _elsewhere(pending: Sequence[str], found: Found) -> list[str]:
    there = _there(found)
    return [uri for uri in pending if uri not in there and not found.covers(uri)]


def _same(source: Source, record: VideoRecord | None) -> VideoRecord | None:
    return record if record is not None and _stamp(source) == _stamp(record.source) else None


def _stamp(source: Source) -> tuple[int, str]:
    return source.size, source.modified


def _there(found: Found) -> set[str]:
    return {source.uri for source in found.sources} | {one.source.uri for one in found.unsettled}


def _gone(records: Iterable[VideoRecord], found: Found) -> list[IndexResult]:
    """What was asked for and is no longer there. What is there but excluded was not asked for."""
    there = _there(found)
    return [
        IndexResult(
            record.uri, "gone", record.video_id, reason="the file is no longer there; `tempo remove` forgets it"
        )
        for record in records
        if record.uri not in there and found.covers(record.uri)
    ]
