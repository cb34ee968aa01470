"""A Ray of this machine and the metrics of a made-up run, as a program that runs until its standard input ends.

It prints where Ray listens as JSON once every metric is set.
"""

from __future__ import annotations

import json
import os
import select
import sys

import ray

from flows.on_ray.metrics import RunMetrics
from flows.on_ray.ray_start import start_ray
from flows.result import IndexResult
from flows.snapshot import Snapshot, Spent, VideoProgress

FIRST = Snapshot(
    elapsed_s=10.0,
    video_count=9,
    settled=0,
    failed=0,
    segment_count=5,
    video_s=40.0,
    state_bytes=0,
    source_bytes=100,
    all_source_bytes=1000,
    waiting=7,
    queued_segment_count=3,
    encoder_count=1,
    encoder_share=0.25,
    under_way=(VideoProgress("/v/a.mp4", 8, 16, 8), VideoProgress("/v/b.mp4", 0, 0, 8)),
)
FELL = Snapshot(  # b failed half-way: its segments are not counted any more
    elapsed_s=20.0,
    video_count=9,
    settled=2,
    failed=1,
    segment_count=4,
    video_s=30.0,
    state_bytes=4000,
    source_bytes=500,
    all_source_bytes=1000,
    waiting=6,
    queued_segment_count=2,
    encoder_count=1,
    encoder_share=0.75,
    spent=Spent(1.0, 2.0, 4.0, 0.5),
    under_way=(VideoProgress("/v/c.mp4", 8, 16, 8),),
)
ROSE = Snapshot(
    elapsed_s=30.0,
    video_count=9,
    settled=3,
    failed=1,
    segment_count=12,
    video_s=90.0,
    state_bytes=9000,
    source_bytes=750,
    all_source_bytes=1000,
    waiting=5,
    queued_segment_count=1,
    encoder_count=1,
    encoder_share=0.5,
    spent=Spent(1.5, 3.0, 8.0, 1.0),
    under_way=(VideoProgress("/v/d.mp4", 8, 16, 8),),
)
EXPORTED_VALUES = {
    ("ray_tempo_segments_total", ""): 12,
    ("ray_tempo_video_seconds_total", ""): 90,
    ("ray_tempo_state_bytes_total", ""): 9000,
    ("ray_tempo_source_bytes_total", ""): 750,
    ("ray_tempo_work_seconds_total", "fetch"): 1.5,
    ("ray_tempo_work_seconds_total", "decode"): 3,
    ("ray_tempo_work_seconds_total", "encode"): 8,
    ("ray_tempo_work_seconds_total", "write"): 1,
    ("ray_tempo_videos_total", "indexed"): 2,
    ("ray_tempo_videos_total", "failed"): 2,
    ("ray_tempo_failures_total", "decode"): 1,
    ("ray_tempo_failures_total", "other"): 1,
    ("ray_tempo_videos_to_do", ""): 9,
    ("ray_tempo_videos_waiting", ""): 5,
    ("ray_tempo_videos_under_way", ""): 1,
    ("ray_tempo_queued_segments", ""): 1,
    ("ray_tempo_encoders", ""): 1,
    ("ray_tempo_encoder_share", ""): 0.5,
    ("ray_tempo_remaining_seconds", ""): 10,
    ("ray_tempo_seconds_per_video_bucket", "1.0"): 0,
    ("ray_tempo_seconds_per_video_bucket", "3.0"): 1,
    ("ray_tempo_seconds_per_video_bucket", "10.0"): 3,
    ("ray_tempo_seconds_per_video_bucket", "+Inf"): 4,
    ("ray_tempo_seconds_per_video_count", ""): 4,
}


def set_all(metrics: RunMetrics) -> None:
    """Two videos indexed, two failed, one of them for a reason that has no class."""
    for snapshot in (FIRST, FELL, ROSE):
        metrics.update(snapshot)
    metrics.settled(IndexResult("/v/a.mp4", "indexed", seconds=2.0), None)
    metrics.settled(IndexResult("/v/b.mp4", "failed", reason="no video stream", seconds=4.0), "decode")
    metrics.settled(IndexResult("/v/c.mp4", "indexed", seconds=5.0), None)
    metrics.settled(IndexResult("/v/e.mp4", "failed", reason="?", seconds=20.0), "a step of tomorrow")


def main() -> None:
    """Run until standard input ends."""
    with start_ray(num_cpus=1) as url:
        inside = _environment(list(json.loads(sys.argv[1])))
        metrics = RunMetrics()
        set_all(metrics)
        sys.stdout.write(json.dumps({"pid": os.getpid(), "dashboard": url, "environment": inside}) + "\n")
        sys.stdout.flush()
        while not select.select([sys.stdin], [], [], 0.2)[0]:
            metrics.update(ROSE)  # as a run does: Ray forgets a gauge that is not set again


def _environment(names: list[str]) -> dict[str, str | None]:
    """Variables as a task in Ray's worker process sees them."""

    @ray.remote
    def seen() -> dict[str, str | None]:
        return {name: os.environ.get(name) for name in names}

    found: dict[str, str | None] = ray.get(seen.remote())
    return found


if __name__ == "__main__":
    main()
