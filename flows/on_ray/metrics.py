"""A run's metrics as Ray exports them to Prometheus: fed by the driver alone, from what it knows of the whole run.

Ray puts ``ray_`` before a name and ``_total`` behind a counter's. Tags are few and closed: no file name, no message. A
histogram's sum is made of its buckets' middles, so only its counts mean something; a gauge that is not set again is
gone with Ray's next report (both seen in Ray 2.60).
"""

from __future__ import annotations

from typing import get_args

from ray.util.metrics import Counter, Gauge, Histogram

from flows.result import IndexResult, Status
from flows.snapshot import Snapshot

STAGES = ("fetch", "decode", "encode", "write")
REASONS = ("fetch", "kept", "decode", "encode", "memory", "crash", "other")  # flows.failure's stages
STATUSES: tuple[str, ...] = get_args(Status)
SECONDS_PER_VIDEO = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0]

# What Prometheus finds, with the tag that each is told apart by and what the tag may say.
EXPORTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "ray_tempo_segments_total": ("", ()),
    "ray_tempo_video_seconds_total": ("", ()),
    "ray_tempo_state_bytes_total": ("", ()),
    "ray_tempo_source_bytes_total": ("", ()),
    "ray_tempo_work_seconds_total": ("stage", STAGES),
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
    """A counter that is told totals. One that falls (a video failed half-way) stands until it is passed again."""

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
    """The metrics of one run. ``update`` and ``settled`` are for the monitor and the dispatch loop of its driver."""

    def __init__(self) -> None:
        """Ray must be connected."""
        self._segments = Total("tempo_segments", "Segments encoded")
        self._video_s = Total("tempo_video_seconds", "Seconds of video encoded")
        self._state_bytes = Total("tempo_state_bytes", "Bytes of segment states committed")
        self._source_bytes = Total("tempo_source_bytes", "Bytes of source files done with")
        told = "Seconds of work on videos that are done, summed over processes"
        self._work = {stage: Total("tempo_work_seconds", told, {"stage": stage}) for stage in STAGES}
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
        """The run as it is now."""
        self._segments.reach(snapshot.segments)
        self._video_s.reach(snapshot.video_s)
        self._state_bytes.reach(snapshot.state_bytes)
        self._source_bytes.reach(snapshot.source_bytes)
        for stage, total in self._work.items():
            total.reach(getattr(snapshot.spent, f"{stage}_s"))
        self._to_do.set(snapshot.videos)
        self._waiting.set(snapshot.waiting)
        self._under_way.set(len(snapshot.under_way))
        self._queued.set(snapshot.queued_segments)
        self._encoders.set(snapshot.encoders)
        self._share.set(snapshot.encoder_share)
        if snapshot.remaining_s is not None:
            self._left.set(snapshot.remaining_s)

    def settled(self, result: IndexResult, stage: str | None) -> None:
        """One video more; ``stage``: the one that failed."""
        self._videos.inc(1, {"status": result.status})
        if result.status == "failed":
            self._failures.inc(1, {"reason": stage if stage in REASONS else "other"})
        if result.seconds > 0:
            self._per_video.observe(result.seconds)
