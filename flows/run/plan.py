"""What a run has to do: each source compared with the catalog, without opening a file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flows.failure import due_again, is_passing
from flows.result import IndexResult, committed
from flows.run.discovery import Discovered
from storage.records import FailureRecord, Source, VideoRecord
from storage.sources.fetch import may_be_there

Why = Literal["new", "changed", "other model", "asked again", "tried again"]


@dataclass(frozen=True)
class Task:
    """A source to index.

    ``known``: the record of the same, unchanged file under another model or spec, so that its content need not be
    hashed again. ``before``: the record under this URI and model of the file as it was before it changed. ``why`` it
    is to be indexed: "asked again" for a failure that the user wants retried, "tried again" for one that was not the
    file's fault.
    """

    source: Source
    known: VideoRecord | None = None
    before: VideoRecord | None = None
    why: Why = "new"


@dataclass(frozen=True)
class Plan:
    """``settled``: results that need no work. ``tasks``: what does, in the order in which it is to be begun.

    ``waiting``: URIs that a later run must begin with: files still being written, and what earlier runs left undone of
    sources that this run was not asked for.
    """

    settled: tuple[IndexResult, ...]
    tasks: tuple[Task, ...]
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What a plan is made from besides the sources: the catalog of all models, the failures recorded under
    ``fingerprint`` (of features), and the URIs that earlier runs left undone."""

    records: Sequence[VideoRecord]
    failures: Sequence[FailureRecord]
    fingerprint: str
    pending: Sequence[str] = ()

    def uris(self) -> set[str]:
        """Of all that the library knows of."""
        return {*(record.uri for record in self.records), *(one.source.uri for one in self.failures), *self.pending}


def make_plan(discovered: Discovered, known: Known, retry_failed: bool = False) -> Plan:
    """Sort the discovered sources into unchanged, failed before, still being written, and to do.

    A file is unchanged if its size and modification time (or ETag) are those of the catalog. Records whose source was
    asked for and not discovered are gone. Tasks that earlier runs left undone go first, in their order, then the rest
    by URI.
    """
    discovered = discovered.spelled_as(known.uris())
    mine = {record.uri: record for record in known.records if record.fingerprints.features == known.fingerprint}
    others = {record.uri: record for record in known.records if record.fingerprints.features != known.fingerprint}
    failed = {failure.source.uri: failure for failure in known.failures}
    settled: list[IndexResult] = []
    tasks: list[Task] = []
    for source in discovered.sources:
        before, failure = mine.get(source.uri), failed.get(source.uri)
        result = _settled(source, before, None if retry_failed else failure)
        if result is not None:
            settled.append(result)
        else:
            tasks.append(_task(source, before, failure, others.get(source.uri)))
    settled += [_unsettled(file.source, mine, file.reason) for file in discovered.unsettled]
    waiting = [result.uri for result in settled if result.status == "pending"]
    return Plan(
        settled=(*settled, *_gone(mine.values(), discovered)),
        tasks=tuple(_in_order(tasks, known.pending)),
        waiting=(*_elsewhere(known.pending, discovered), *waiting),
    )


def _settled(source: Source, record: VideoRecord | None, failure: FailureRecord | None) -> IndexResult | None:
    if record is not None and _same(source, record):
        return committed("unchanged", record)
    if failure is not None and not _is_due(failure) and _stamp(source) == _stamp(failure.source):
        return IndexResult(source.uri, "failed-before", reason=failure.reason, tried_again=is_passing(failure.step))
    return None


def _is_due(failure: FailureRecord) -> bool:
    """Whether it was not the file's fault, and is to be tried now: the source may be there again, or memory be free."""
    return due_again(failure.step, failure.attempts, failure.failed_at) <= time.time()


def _task(source: Source, before: VideoRecord | None, failure: FailureRecord | None, other: VideoRecord | None) -> Task:
    """``other``: the record of the source under another model."""
    why: Why = "other model" if other is not None else "new"
    if failure is not None and _stamp(source) == _stamp(failure.source):
        why = "tried again" if is_passing(failure.step) else "asked again"
    elif before is not None or failure is not None:
        why = "changed"
    return Task(source, _same(source, other), before, why)


def _unsettled(source: Source, mine: Mapping[str, VideoRecord], reason: str) -> IndexResult:
    """Pending; but unchanged where the library has the file as it is now."""
    record = _same(source, mine.get(source.uri))
    return committed("unchanged", record) if record is not None else IndexResult(source.uri, "pending", reason=reason)


def _in_order(tasks: Iterable[Task], first: Sequence[str]) -> list[Task]:
    rank = {uri: position for position, uri in enumerate(first)}
    return sorted(tasks, key=lambda task: (rank.get(task.source.uri, len(rank)), task.source.uri))


def _elsewhere(pending: Sequence[str], discovered: Discovered) -> list[str]:
    return [uri for uri in pending if uri not in discovered.uris and not discovered.covers(uri)]


def _same(source: Source, record: VideoRecord | None) -> VideoRecord | None:
    return record if record is not None and _stamp(source) == _stamp(record.source) else None


def _stamp(source: Source) -> tuple[int, str]:
    return source.size, source.modified


def _gone(records: Iterable[VideoRecord], discovered: Discovered) -> list[IndexResult]:
    """Records of sources that were asked for and are no longer there; an excluded one was not asked for.

    A file that was found by another path than the recorded one (through a link) is still there.
    """
    return [
        IndexResult(
            record.uri, "gone", record.video_id, reason="the file is no longer there; `tempo remove` forgets it"
        )
        for record in records
        if record.uri not in discovered.uris and discovered.covers(record.uri) and not may_be_there(record.uri)
    ]
