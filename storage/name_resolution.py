"""Which videos and sources of a library a user means by a URI, the beginning of an id, a title or a file name."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import PurePosixPath

from storage.catalog import Catalog
from storage.filters import one_of, quoted
from storage.records import VideoRecord, one_per_content
from storage.schemas import FAILURES
from storage.sources.fetch import local_uri
from tempo_core.errors import UsageError
from tempo_core.local_paths import local_path

SHORTEST_ID = 6
LONGEST_ID = 64
_REVERSED_NAME = "split_part(reverse(rtrim(uri, '/')), '/', 1)"  # of the file; SQL splits from the front only
_REVERSED_STEM = f"regexp_replace({_REVERSED_NAME}, '^[^.]*[.]', '')"


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
    fitting = f"{_is_any(uris)} OR {_names_a_file(names)}"
    failures = {str(row["uri"]) for row in catalog.tables.rows(FAILURES, fitting, ["uri"])}
    failed = sorted(failures - named.by_uri.keys())
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
    """Records by what they may be named by. ``uris``: what each name is as a URI; ``library``: its URI."""

    def __init__(self, records: Sequence[VideoRecord], uris: Mapping[str, set[str]], library: str) -> None:
        self.uris, self.library = uris, library
        self.by_uri: dict[str, list[VideoRecord]] = defaultdict(list)
        self._by_name: dict[str, list[VideoRecord]] = defaultdict(list)
        self._by_id: dict[str, list[VideoRecord]] = defaultdict(list)
        for record in records:
            self.by_uri[record.uri].append(record)
            self._by_id[record.video_id].append(record)
            for name in {record.title, *_file_names(record.uri)}:
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
        once = {(record.uri, record.fingerprints.features): record for record in matching}
        return [once[key] for key in sorted(once)]


def _candidates(catalog: Catalog, fingerprint: str | None, uris: Mapping[str, set[str]]) -> list[VideoRecord]:
    """The rows that any name may mean; one that is a URI is not looked up as anything else. ``uris``: by name."""
    model = "" if fingerprint is None else f" AND features_fingerprint = {quoted(fingerprint)}"
    by_uri = catalog.rows(_is_any(uris) + model)
    known = {record.uri for record in by_uri}
    others = [name for name in uris if not uris[name] & known]
    return [*by_uri, *catalog.rows(f"({_fits_any(others)}){model}")] if others else by_uri


def _is_any(uris: Mapping[str, set[str]]) -> str:
    return one_of("uri", sorted(set().union(*uris.values())))


def _fits_any(names: Sequence[str]) -> str:
    conditions = [_names_a_file(names)]
    ids: dict[int, list[str]] = defaultdict(list)
    for name in filter(_is_id, names):
        ids[len(name)].append(name)
    for length, beginnings in sorted(ids.items()):
        conditions.append(one_of("video_id" if length == LONGEST_ID else f"left(video_id, {length})", beginnings))
    return " OR ".join(conditions)


def _names_a_file(names: Sequence[str]) -> str:
    backwards = [name[::-1] for name in names]
    return f"{one_of(_REVERSED_NAME, backwards)} OR {one_of(_REVERSED_STEM, backwards)}"


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
    return {name, local_uri(local_path(name))}


def _is_id(name: str) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},{LONGEST_ID}}}", name) is not None


def _file_names(uri: str) -> set[str]:
    """With the suffix and without."""
    file = PurePosixPath(uri)
    return {file.name, file.stem}
