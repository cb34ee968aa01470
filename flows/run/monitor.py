"""Counts a run: what is settled and what is under way becomes a ``Snapshot`` about once a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flows.result import IndexResult
from flows.snapshot import Snapshot, Spent, VideoProgress
from flows.video.worker import WorkerLoad

MOST_KEPT = 240  # snapshots of a report; of a longer run, every second, fourth, ... is kept
LOOK_S = 0.25


@dataclass
class Monitor:
    """Counts a run over ``video_count`` videos with ``all_source_bytes``; each watcher gets every snapshot."""

    video_count: int
    all_source_bytes: int
    watchers: list[Callable[[Snapshot], None]] = field(default_factory=list)
    kept: list[Snapshot] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _settled: int = 0
    _settled_bytes: int = 0
    _failed: int = 0
    _segment_count: int = 0
    _video_s: float = 0.0
    _state_bytes: int = 0
    _spent: Spent = field(default_factory=Spent)
    _last_look: float = 0.0
    _busy_s: float = 0.0
    _step_s: float = 1.0

    def spent(self, spent: Spent) -> None:
        """Add the seconds of one more video."""
        self._spent += spent

    def settled(self, result: IndexResult, source_bytes: int) -> None:
        self._settled += 1
        self._settled_bytes += source_bytes
        self._failed += result.status == "failed"
        if result.status == "indexed":
            self._segment_count += result.segments
            self._video_s += result.duration_s
            self._state_bytes += result.state_bytes

    def look(self, loads: Sequence[WorkerLoad], waiting: int, sources: Mapping[str, int], last: bool = False) -> None:
        """Give the watchers a snapshot, unless the last one is younger than ``LOOK_S``.

        ``waiting``: videos not begun. ``sources``: bytes of those under way, by URI. ``last``: the run is over.
        """
        now = time.monotonic()
        if now - self._last_look < LOOK_S and not last:
            return
        snapshot = self._snapshot(loads, waiting, sources, now)
        self._last_look, self._busy_s = now, sum(load.busy_s for load in loads)
        for watcher in self.watchers:
            watcher(snapshot)
        self._keep(snapshot, last)

    def _snapshot(self, loads: Sequence[WorkerLoad], waiting: int, sources: Mapping[str, int], now: float) -> Snapshot:
        under_way = tuple(video for load in loads for video in load.videos)
        passed = (now - max(self._last_look, self._began)) * max(1, len(loads))
        busy = sum(load.busy_s for load in loads) - self._busy_s
        return Snapshot(
            elapsed_s=now - self._began,
            video_count=self.video_count,
            settled=self._settled,
            failed=self._failed,
            segment_count=self._segment_count + sum(_segments_done(video) for video in under_way),
            video_s=self._video_s + sum(video.video_s for video in under_way),
            state_bytes=self._state_bytes,
            source_bytes=self._settled_bytes + sum(_read_bytes(video, sources) for video in under_way),
            all_source_bytes=self.all_source_bytes,
            waiting=waiting,
            queued_segment_count=sum(load.queued_segment_count for load in loads),
            encoder_count=len(loads),
            encoder_share=min(1.0, max(0.0, busy / passed)) if passed > 0 else 0.0,
            spent=self._spent,
            under_way=under_way,
        )

    def _keep(self, snapshot: Snapshot, last: bool) -> None:
        if not last and self.kept and snapshot.elapsed_s - self.kept[-1].elapsed_s < self._step_s:
            return
        self.kept.append(snapshot)
        if len(self.kept) > MOST_KEPT:
            self.kept, self._step_s = self.kept[::2], 2 * self._step_s


def _segments_done(video: VideoProgress) -> int:
    return -(-video.frame_count // video.segment_frames)


def _read_bytes(video: VideoProgress, sources: Mapping[str, int]) -> int:
    return sources.get(video.uri, 0) * video.frame_count // video.total_frame_count if video.total_frame_count else 0
