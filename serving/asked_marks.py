"""Which videos are asked about, noted in the library beside the question: nothing waits for a mark or fails by one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from math import inf

from storage import Library
from storage.asked import MARK_AGE_S


class AskedMarks:
    """Marks each video once a day at most, so that what is asked often costs one write."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._marked: dict[str, float] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mark-asked")

    def mark(self, video_ids: Iterable[str]) -> None:
        now = time.monotonic()
        due = [one for one in dict.fromkeys(video_ids) if now - self._marked.get(one, -inf) > MARK_AGE_S]
        if due:
            self._marked |= dict.fromkeys(due, now)
            self._thread.submit(self._library.mark_asked, due)
