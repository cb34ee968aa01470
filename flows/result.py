"""What became of each video of a run: small records that are shown, counted and sent between processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from flows.snapshot import Snapshot, Spent
from flows.text import clock, counted, one_line, size, span
from storage.records import VideoRecord
from storage.state_budget import DroppedStates

Status = Literal["indexed", "unchanged", "duplicate", "failed", "failed-before", "pending", "gone"]


TRIED_AGAIN = " (not the file's fault: later runs try it again)"


@dataclass(frozen=True, slots=True)
class IndexResult:
    """One video of a run. ``reason`` says why it is not indexed; ``seconds`` is what this run spent on it.

    ``tried_again``: it failed, and through no fault of the file's, so that later runs try it again by themselves.
    """

    uri: str
    status: Status
    video_id: str | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    segments: int = 0
    frames: int = 0
    duration_s: float = 0.0
    state_bytes: int = 0
    seconds: float = 0.0
    tried_again: bool = False

    @property
    def details(self) -> str:
        """The video's figures for people, or the reason why it is not indexed; one line."""
        if self.status not in {"indexed", "duplicate"}:
            return one_line((self.reason or "") + (TRIED_AGAIN if self.tried_again else ""))
        figures = [
            clock(self.duration_s),
            counted(self.segments, "segment"),
            size(self.state_bytes) if self.state_bytes else "no states",
            span(self.seconds),
        ]
        return ", ".join(figures)

    def to_json(self) -> dict[str, object]:
        """The line of ``index --json``."""
        return {**asdict(self), "warnings": list(self.warnings)}


def committed(status: Status, record: VideoRecord, seconds: float = 0.0) -> IndexResult:
    """The result of a video that is in the library."""
    return IndexResult(
        uri=record.uri,
        status=status,
        video_id=record.video_id,
        warnings=record.facts.warnings,
        segments=record.segment_count,
        frames=record.frame_count,
        duration_s=record.facts.duration_s,
        state_bytes=record.states_part.size if record.states_part else 0,
        seconds=seconds,
    )


@dataclass(frozen=True)
class RunSummary:
    """A whole run, counted. ``tried_again``: of those that failed now or before, how many later runs try again."""

    counts: dict[str, int]
    segments: int
    frames: int
    duration_s: float
    state_bytes: int
    seconds: float
    tried_again: int = 0

    @property
    def failed_now(self) -> bool:
        """Whether a video failed in this run (exit code 3)."""
        return self.counts["failed"] > 0

    @property
    def details(self) -> str:
        """The whole run in one line for people."""
        counts = ", ".join(f"{count:,} {status}" for status, count in self.counts.items() if count)
        counts += f" ({self.tried_again:,} of the failed through no fault of the file)" if self.tried_again else ""
        return f"{counts or 'nothing to do'}; {counted(self.segments, 'segment')} in {span(self.seconds)}"

    def to_json(self) -> dict[str, object]:
        """The last line of ``index --json``: it has no ``uri``."""
        return asdict(self)


@dataclass(frozen=True)
class RunReport:
    """What a run leaves to be shown: each video's result, the counts, and how it went over time.

    ``snapshots``: the run at moments from its begin to its end, the last one included; at most a few hundred.
    """

    results: tuple[IndexResult, ...]
    summary: RunSummary
    snapshots: tuple[Snapshot, ...] = ()

    @property
    def spent(self) -> Spent:
        """Seconds of work by step."""
        return self.snapshots[-1].spent if self.snapshots else Spent()


def summarize(results: Iterable[IndexResult], seconds: float) -> RunSummary:
    """Counts per status over all; frames, bytes and durations over what this run indexed."""
    every = list(results)
    counts = Counter(result.status for result in every)
    new = [result for result in every if result.status == "indexed"]
    return RunSummary(
        counts={status: counts[status] for status in get_args(Status)},
        segments=sum(result.segments for result in new),
        frames=sum(result.frames for result in new),
        duration_s=sum(result.duration_s for result in new),
        state_bytes=sum(result.state_bytes for result in new),
        seconds=seconds,
        tried_again=sum(result.tried_again for result in every),
    )


def dropped_states(dropped: DroppedStates) -> str:
    """What a budget of states cost, as a sentence."""
    videos = counted(dropped.videos, "video")
    return f"states of {videos} dropped, {size(dropped.bytes)}: asked about least recently; their frames are kept"
