"""Which videos and sources of a library a user means by a URI, the beginning of an id, a title or a file name."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

import pyarrow as pa
import pyarrow.compute as pc

from storage.catalog import Catalog
from storage.filters import is_text, one_of
from storage.records import VideoRecord, one_per_content
from storage.schemas import FAILURES
from storage.sources.fetch import local_uri
from tempo_core.errors import UsageError
from tempo_core.local_paths import local_path

SHORTEST_ID = 6
LONGEST_ID = 64


def named_videos(catalog: Catalog, fingerprint: str | None, names: Sequence[str]) -> list[VideoRecord]:
    """The records each name stands for, in the order named and once each; of one model, or (None) of every one.

    A name that is a URI means that source alone; any other means a content with all its copies. UsageError for a name
    that fits nothing, or different videos. Only rows that fit a name are read.
    """
    uris = {name: _as_uris(name) for name in names}
    named = _Named(_candidates(catalog, fingerprint, uris), uris, catalog.store.uri)
    selected: dict[tuple[str, str], VideoRecord] = {}
    for name in names:
        for record in named.records(name):
            selected[record.uri, record.fingerprints.features] = record
    return list(selected.values())


def named_sources(catalog: Catalog, names: Sequence[str]) -> list[str]:
    """The URIs each name stands for, in the order named and once each: as ``named_videos``, and of failures too.

    A source that only ever failed has no id; it is named by its URI or its file's name.
    """
    uris = {name: _as_uris(name) for name in names}
    named = _Named(_candidates(catalog, None, uris), uris, catalog.store.uri)
    rows = catalog.tables.columns(FAILURES, ["uri"])
    failures = [] if rows is None else rows["uri"].filter(_is_named_by_any(rows["uri"], uris)).to_pylist()
    failed = sorted(set(failures) - named.by_uri.keys())
    sources: dict[str, None] = {}
    for name in names:
        sources |= dict.fromkeys(_named_sources(named, failed, name))
    return list(sources)


def folder_beginnings(name: str | None) -> tuple[str, ...]:
    """What the URIs of sources below a folder or an S3 prefix begin with, those no UTF-8 text included; () for None."""
    if name is None:
        return ()
    if name.startswith("s3://"):
        return (f"{name.rstrip('/')}/",)
    path = local_path(name)
    return tuple(f"{uri.rstrip('/')}/" for uri in dict.fromkeys((local_uri(path), path.as_uri())))


class _Named:
    """Records by the names they may be meant by. ``uris``: what each name is as a URI; ``library``: its URI."""

    def __init__(self, records: Sequence[VideoRecord], uris: Mapping[str, set[str]], library: str) -> None:
        self.uris, self.library = uris, library
        self.by_uri: dict[str, list[VideoRecord]] = defaultdict(list)
        self._by_name: dict[str, list[VideoRecord]] = defaultdict(list)
        self._by_id: dict[str, list[VideoRecord]] = defaultdict(list)
        for record in records:
            self.by_uri[record.uri].append(record)
            self._by_id[record.video_id].append(record)
            for name in uris.keys() & _file_names(record.uri):
                self._by_name[name].append(record)
        self._ids = sorted(self._by_id)

    def records(self, name: str) -> list[VideoRecord]:
        """What the name means; UsageError where that is nothing, or different videos."""
        if by_uri := [record for uri in sorted(self.uris[name]) for record in self.by_uri.get(uri, ())]:
            return by_uri
        matching = self.fitting(name)
        if not matching:
            raise UsageError(
                f"no video {name!r} in {self.library}; `tempo status` counts them, name one by its URI, id or title"
            )
        if len({record.video_id for record in matching}) > 1:
            several = ", ".join(f"{record.video_id[:12]} ({record.uri})" for record in one_per_content(matching)[:5])
            raise UsageError(f"{name!r} fits several videos in {self.library}: {several}; name one by its id")
        return matching

    def fitting(self, name: str) -> list[VideoRecord]:
        """The records whose id begins with the name, or whose file it names."""
        matching = list(self._by_name.get(name, ()))
        if _is_id(name):
            ids = takewhile(lambda video_id: video_id.startswith(name), self._ids[bisect_left(self._ids, name) :])
            matching += [record for video_id in ids for record in self._by_id[video_id]]
        if len(matching) == 1:
            return matching
        once = {(record.uri, record.fingerprints.features): record for record in matching}
        return [once[key] for key in sorted(once)]


def _candidates(catalog: Catalog, fingerprint: str | None, uris: Mapping[str, set[str]]) -> list[VideoRecord]:
    """The rows that any name may mean. ``uris``: by name. A path or URI that is found is looked up as nothing else."""
    paths = [uri for name in uris if "/" in name for uri in uris[name]]
    by_uri = catalog.rows(one_of("uri", sorted(set(paths)))) if paths else []
    known = {record.uri for record in by_uri}
    others = {name: uris[name] for name in uris if not uris[name] & known}
    found = [*by_uri, *_fitting(catalog, others)] if others else by_uri
    return [record for record in found if fingerprint in {None, record.fingerprints.features}]


def _fitting(catalog: Catalog, uris: Mapping[str, set[str]]) -> list[VideoRecord]:
    """The rows of contents whose URI, id or file one of the names may mean.

    The ids and URIs of all rows are compared as columns, which takes a microsecond a row, and hardly more for a
    thousand names than for one: in a filter, each name would have to be parsed. A commit between the two look-ups
    retires a generation that was found, so both are made again.
    """
    while True:
        rows = catalog.names()
        fitting = pc.or_(_begins_with_any(rows["video_id"], uris), _is_named_by_any(rows["uri"], uris))
        generations = rows["generation"].filter(fitting).unique().to_pylist()
        records = catalog.of_generations(generations)
        if len({record.generation for record in records}) == len(generations):
            return records


def _begins_with_any(ids: pa.ChunkedArray, names: Iterable[str]) -> pa.ChunkedArray:
    """Which of ``ids`` begin with one of ``names``."""
    beginnings: dict[int, list[str]] = defaultdict(list)
    for name in filter(_is_id, names):
        beginnings[len(name)].append(name)
    begins = pa.chunked_array([pa.repeat(pa.scalar(False), len(ids))])
    for length, values in beginnings.items():
        begins = pc.or_(begins, pc.is_in(pc.utf8_slice_codeunits(ids, 0, length), pa.array(values)))
    return begins


def _is_named_by_any(uris: pa.ChunkedArray, names: Mapping[str, set[str]]) -> pa.ChunkedArray:
    """Which of ``uris`` are one of those of ``names``, or end in one of these, with the file's suffix or without.

    A name that is no UTF-8 text is in none.
    """
    own, files = (_texts(values) for values in (set().union(*names.values()), names))
    ends = _part(pc.ascii_rtrim(uris, "/"), "/", -1)
    is_file = pc.or_(pc.is_in(ends, files), pc.is_in(_part(ends, ".", 0), files))
    return pc.or_(is_file, pc.is_in(uris, own))


def _texts(values: Iterable[str]) -> pa.Array:
    return pa.array(filter(is_text, values), pa.string())


def _part(texts: pa.ChunkedArray, separator: str, position: int) -> pa.ChunkedArray:
    """What stands before (0) or behind (-1) the last separator of each text; the whole text where there is none."""
    parts = pc.split_pattern(texts, separator, max_splits=1, reverse=True).combine_chunks()
    offsets = parts.offsets.to_numpy()
    return pa.chunked_array([parts.values.take(pa.array(offsets[1:] - 1 if position else offsets[:-1]))])


def _named_sources(named: _Named, failed: Sequence[str], name: str) -> list[str]:
    if by_uri := named.uris[name] & {*failed, *named.by_uri}:
        return sorted(by_uri)
    matching = [uri for uri in failed if name in _file_names(uri)]
    if not matching:
        return [record.uri for record in named.records(name)]
    others = [record.uri for record in one_per_content(named.fitting(name))]
    if len(matching) + len(others) > 1:
        several = ", ".join([*matching, *others][:5])
        raise UsageError(f"{name!r} fits several sources in {named.library}: {several}; name one by its URI")
    return matching


def _as_uris(name: str) -> set[str]:
    own = {name} if "/" in name else set()  # every URI has one
    return {*own, local_uri(local_path(name))}


def _is_id(name: str) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},{LONGEST_ID}}}", name) is not None


def _file_names(uri: str) -> set[str]:
    """With the suffix and without."""
    name = uri.rstrip("/").rpartition("/")[2]
    stem = name.rpartition(".")[0]
    return {name, stem or name}  # no name is all suffix
