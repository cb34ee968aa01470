"""When each video was asked about last: a mark, an empty file, whose time of writing says it.

Marks decide which states a budget drops first, and nothing else, so they are best effort: none is needed, and whoever
asks needs no lease to write one. A question writes at most one a video and day, whatever the library holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable
from contextlib import suppress

from storage.stores.base import ASKED_FOLDER, Store
from tempo_core.errors import LibraryError

MARK_AGE_S = 24 * 3600.0  # a younger mark is left as it is
_VIDEO_ID = re.compile(r"[0-9a-f]{64}")


def mark_asked(store: Store, video_ids: Iterable[str]) -> None:
    """Mark videos as asked about now. Where one cannot be marked, as in a library that is only read, it ends there."""
    with suppress(OSError, LibraryError):
        for video_id in video_ids:
            path = _mark(video_id)
            if time.time() - (store.modified(path) or 0.0) > MARK_AGE_S:
                store.write_bytes(path, b"")


def asked_times(store: Store) -> dict[str, float]:
    """By video id, when it was asked about last, in seconds of the Unix epoch and about a day behind."""
    files = ((file.path.rsplit("/", 1)[-1], file.modified) for file in store.files(ASKED_FOLDER))
    return {name: modified for name, modified in files if _VIDEO_ID.fullmatch(name)}


def forget_asked(store: Store, kept: Collection[str]) -> None:
    """Remove the marks of all videos but ``kept``; one that another user made and this one cannot remove stays."""
    for video_id in asked_times(store).keys() - set(kept):
        with suppress(OSError):
            store.delete(_mark(video_id))


def _mark(video_id: str) -> str:
    return f"{ASKED_FOLDER}/{video_id[:2]}/{video_id}"
