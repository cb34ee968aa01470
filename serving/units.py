"""A question's preparation in units, between which others get the device; and what it waits for the disk with."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from serving.stopwatch import Stopwatch

Result = TypeVar("Result")
# Between two units it gives None, or what it waits for before the next one; at last it returns its result.
Units = Generator[Future[Any] | None, None, Result]

_READS = 4  # at once, of different questions: one question reads one thing at a time


class Disk:
    """Reads in threads of its own, so that the device has other work meanwhile."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_READS, thread_name_prefix="tempo-disk")

    def begin(self, read: Callable[[], Result]) -> Future[Result]:
        return self._threads.submit(read)

    def load(self, read: Callable[[], Result], watch: Stopwatch) -> Units[Result]:
        """What ``read`` returns, or its error."""
        result = yield from loaded(self.begin(read), watch)
        return result

    def close(self) -> None:
        """Reads that have not begun never will."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def loaded(reading: Future[Result], watch: Stopwatch) -> Units[Result]:
    """Its result, once it is there; one that nobody waits for any more need not begin."""
    with watch.step("load"):
        try:
            yield reading
            return reading.result()
        finally:
            reading.cancel()
