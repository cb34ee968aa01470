"""A run's metrics as Ray exports them to Prometheus; only the driver sets them, since it sees the whole run.

Ray prefixes each name with ``ray_`` and appends ``_total`` to a counter's. The values of all tags are listed here: no
file name and no message becomes a tag. Ray computes a histogram's sum from the middles of its buckets, so only its
counts are exact; it drops a gauge that was not set again since its last report (both seen in Ray 2.60).
"""

from __future__ import annotations

from typing import get_args

from ray.util.metrics import Counter, Gauge, Histogram

from flows.failure import CRASH, DECODE, ENCODE, FETCH, KEPT, MEMORY, TIMEOUT
from flows.result import IndexResult, Status
from flows.snapshot import Snapshot, Spent

STEPS = tuple(Spent().by_step())
REASONS = (FETCH, KEPT, DECODE, ENCODE, MEMORY, CRASH, TIMEOUT, "other")
STATUSES: tuple[str, ...] = get_args(Status)
SECONDS_PER_VIDEO = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0]

# Each series that Prometheus finds, with the name of its tag and the values that the tag may have.
EXPORTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "ray_tempo_segments_total": ("", ()),
    "ray_tempo_video_seconds_total": ("", ()),
    "ray_tempo_state_bytes_total": ("", ()),
    "ray_tempo_source_bytes_total": ("", ()),
    "ray_tempo_work_seconds_total": ("step", STEPS),
    "ray_tempo_videos_total": ("status", STATUSES),
    "ray_tempo_failures_total": ("reason", REASONS),
    "ray_tempo_videos_to_do": ("", ()),
    "ray_tempo_videos_waiting": ("", ()),
    "ray_tempo_videos_under_way": ("", ()),
    "ray_tempo_queued_segments": ("", ()),
    "ray_tempo_encoders": ("", ()),
    "ray_tempo_encoder_share": ("", ()),
    "ray_tempo_remaining_seconds": ("", ()),
    "ray_tempo_seconds_per_video_bucket": ("le", ()),
    "ray_tempo_seconds_per_video_count": ("", ()),
    "ray_tempo_seconds_per_video_sum": ("", ()),
}


class Total:
    """A counter that is set to totals. It stays where it is while the total is lower (a video failed)."""

    def __init__(self, name: str, description: str, tags: dict[str, str] | None = None) -> None:
        self._tags: dict[str, str] = tags or {}
        self._counter = Counter(name, description=description, tag_keys=tuple(self._tags))
        self._highest = 0.0

    def reach(self, total: float) -> None:
        """Count what is above the highest total so far."""
        if total > self._highest:
            self._counter.inc(total - self._highest, self._tags)
            self._highest = total


class RunMetrics:
    """The metrics of one run; ``update`` is called by the monitor of its driver, ``settled`` by the dispatch loop."""

    def __init__(self) -> None:
        """Ray must be connected."""
        self._segments = Total("tempo_segments", "Segments encoded")
        self._video_s = Total("tempo_video_seconds", "Seconds of video encoded")
        self._state_bytes = Total("tempo_state_bytes", "Bytes of segment states committed")
        self._source_bytes = Total("tempo_source_bytes", "Bytes of source files done with")
        work = "Seconds of work on videos that are done, summed over processes"
        self._work = {step: Total("tempo_work_seconds", work, {"step": step}) for step in STEPS}
        self._videos = Counter("tempo_videos", description="Videos settled", tag_keys=("status",))
        self._failures = Counter("tempo_failures", description="Videos failed", tag_keys=("reason",))
        self._to_do = Gauge("tempo_videos_to_do", description="Videos of this run")
        self._waiting = Gauge("tempo_videos_waiting", description="Videos not begun")
        self._under_way = Gauge("tempo_videos_under_way", description="Videos being read and encoded")
        self._queued = Gauge("tempo_queued_segments", description="Segments decoded, waiting for an encoder")
        self._encoders = Gauge("tempo_encoders", description="Encoding processes")
        self._share = Gauge("tempo_encoder_share", description="Share of the time that the encoders compute, 0 to 1")
        self._left = Gauge("tempo_remaining_seconds", description="Time left, by bytes of sources")
        self._per_video = Histogram(
            "tempo_seconds_per_video", description="Seconds from begin to settled", boundaries=SECONDS_PER_VIDEO
        )

    def update(self, snapshot: Snapshot) -> None:
        self._segments.reach(snapshot.segment_count)
        self._video_s.reach(snapshot.video_s)
        self._state_bytes.reach(snapshot.state_bytes)
        self._source_bytes.reach(snapshot.source_bytes)
        for step, seconds in snapshot.spent.by_step().items():
            self._work[step].reach(seconds)
        self._to_do.set(snapshot.video_count)
        self._waiting.set(snapshot.waiting)
        self._under_way.set(len(snapshot.under_way))
        self._queued.set(snapshot.queued_segment_count)
        self._encoders.set(snapshot.encoder_count)
        self._share.set(snapshot.encoder_share)
        if snapshot.remaining_s is not None:
            self._left.set(snapshot.remaining_s)

    def settled(self, result: IndexResult, step: str | None) -> None:
        """Count one more video; ``step``: the one that failed."""
        self._videos.inc(1, {"status": result.status})
        if result.status == "failed":
            self._failures.inc(1, {"reason": step if step in REASONS else "other"})
        if result.seconds > 0:
            self._per_video.observe(result.seconds)
