"""Which videos and sources of a library a user means by a URI, the beginning of an id, a title or a file name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from storage.records import FailureRecord, VideoRecord, one_per_content
from storage.sources.source_sets import comparison_key
from tempo_core.errors import UsageError
from tempo_core.local_paths import local_path

SHORTEST_ID = 6


def select_videos(records: Sequence[VideoRecord], names: Sequence[str], library: str) -> list[VideoRecord]:
    """The records each name stands for, in the order named and once each.

    A name that is a URI means that source alone; any other means a content with all its copies. UsageError for a name
    that fits nothing, or different videos; ``library``: its URI, for the message.
    """
    selected: dict[tuple[str, str], VideoRecord] = {}
    for name in names:
        for record in _named_records(records, name, library):
            selected[record.uri, record.fingerprints.features] = record
    return list(selected.values())


def select_sources(
    records: Sequence[VideoRecord], failures: Iterable[FailureRecord], names: Sequence[str], library: str
) -> list[str]:
    """The URIs each name stands for, in the order named and once each: as ``select_videos``, and of failures too.

    A source that only ever failed has no id; it is named by its URI or its file's name.
    """
    indexed = {record.uri for record in records}
    failed = sorted({failure.source.uri for failure in failures} - indexed)
    uris: dict[str, None] = {}
    for name in names:
        uris |= dict.fromkeys(_named_sources(records, failed, name, library))
    return list(uris)


def _named_sources(records: Sequence[VideoRecord], failed: Sequence[str], name: str, library: str) -> list[str]:
    if by_uri := _spelled(name, (*failed, *(record.uri for record in records))):
        return sorted(by_uri)
    matching = [uri for uri in failed if _is_file_name(name, uri)]
    if not matching:
        return [record.uri for record in _named_records(records, name, library)]
    others = [record.uri for record in one_per_content(records) if _fits(record, name)]
    if len(matching) + len(others) > 1:
        several = ", ".join([*matching, *others][:5])
        raise UsageError(f"{name!r} fits several sources in {library}: {several}; name one by its URI")
    return matching


def _named_records(records: Sequence[VideoRecord], name: str, library: str) -> list[VideoRecord]:
    uris = _spelled(name, (record.uri for record in records))
    if by_uri := [record for record in records if record.uri in uris]:
        return by_uri
    matching = [record for record in records if _fits(record, name)]
    if not matching:
        raise UsageError(
            f"no video {name!r} in {library}; `tempo status` counts them, name one by its URI, id or title"
        )
    if len({record.video_id for record in matching}) > 1:
        several = ", ".join(f"{record.video_id[:12]} ({record.uri})" for record in one_per_content(matching)[:5])
        raise UsageError(f"{name!r} fits several videos in {library}: {several}; name one by its id")
    return matching


def _spelled(name: str, uris: Iterable[str]) -> set[str]:
    """Those of ``uris`` that are ``name``, in any spelling of its path."""
    key = str(local_path(name))
    return {uri for uri in uris if uri == name or comparison_key(uri) == key}


def _fits(record: VideoRecord, name: str) -> bool:
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},64}}", name) and record.video_id.startswith(name):
        return True
    return name == record.title or _is_file_name(name, record.uri)


def _is_file_name(name: str, uri: str) -> bool:
    file = PurePosixPath(uri)
    return name in {file.name, file.stem}
