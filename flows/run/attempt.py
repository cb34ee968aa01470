"""One try of a task, as the dispatch knows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from flows.run.plan import Task
from flows.video.worker import Job
from storage import Source


@dataclass(eq=False)
class Attempt:
    """A task, what its earlier tries showed, and where its present one is.

    ``crashes``: processes that died with nothing else under way. ``alone``: it needs an idle worker, and shares it with
    nothing. ``from_source``: what the library has of the video is damaged. ``source`` is as it was last opened.
    """

    task: Task
    crashes: int = 0
    alone: bool = False
    from_source: bool = False
    worker: int = field(init=False)
    job: Job = field(init=False)
    source: Source = field(init=False)
    began: float = field(init=False)

    def begin(self, worker: int, key: int) -> None:
        self.worker, self.began = worker, time.monotonic()
        self.source, self.job = self.task.source, Job(key, self.task.source.uri)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began
