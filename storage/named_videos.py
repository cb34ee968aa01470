"""Which videos a user means by a URI, the beginning of an id, a title or a file name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from storage.records import VideoRecord
from storage.sources.fetch import local_path, local_uri
from tempo_core.errors import UsageError

SHORTEST_ID = 6


def select_videos(records: Sequence[VideoRecord], names: Sequence[str], place: str) -> list[VideoRecord]:
    """The records each name stands for, in the order named and once each.

    A name that is a URI means that source alone; any other means a content with all its copies.
    """
    chosen: dict[tuple[str, str], VideoRecord] = {}
    for name in names:
        for record in _named(records, name, place):
            chosen[record.uri, record.fingerprints.features] = record
    return list(chosen.values())


def one_per_content(records: Sequence[VideoRecord]) -> list[VideoRecord]:
    """The first record of each content and model: copies are left out."""
    first: dict[tuple[str, str], VideoRecord] = {}
    for record in records:
        first.setdefault((record.video_id, record.fingerprints.features), record)
    return list(first.values())


def _named(records: Sequence[VideoRecord], name: str, place: str) -> list[VideoRecord]:
    uris = {name, local_uri(local_path(name))}
    by_uri = [record for record in records if record.uri in uris]
    found = by_uri or [record for record in records if _fits(record, name)]
    if not found:
        raise UsageError(f"no video {name!r} in {place}; `tempo status` counts them, name one by its URI, id or title")
    contents = sorted({record.video_id for record in found})
    if len(contents) > 1:
        raise UsageError(f"{name!r} fits several videos in {place}: {', '.join(_described(found))}; name one by its id")
    return found


def _fits(record: VideoRecord, name: str) -> bool:
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},64}}", name) and record.video_id.startswith(name):
        return True
    file = PurePosixPath(record.uri)
    return name in {record.title, file.name, file.stem}


def _described(records: Sequence[VideoRecord]) -> list[str]:
    return [f"{record.video_id[:12]} ({record.uri})" for record in one_per_content(records)[:5]]
