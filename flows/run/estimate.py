"""What a run will take, before it begins: bytes and hours. A few files are probed, the rest is inferred from sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from flows.run.plan import Task
from flows.text import counted
from tempo_core.decoding import probe
from tempo_core.errors import NoSpace, TempoError
from tempo_core.geometry import frame_size, visual_tokens
from tempo_core.host import cpu_count
from tempo_core.local_paths import local_path
from tempo_core.pixels import patchify
from tempo_core.sampling import sample_frames
from tempo_core.spec import FrameGeometry, IndexSpec, Keep
from tempo_core.values import SegmentPixels

if TYPE_CHECKING:
    from tempo_core import Checkpoint
    from tempo_core.model_identity import ModelIdentity

MOST_PROBES, MOST_PROBED_BYTES = 8, 4 * 10**9
PIXELS_PER_CORE_S = 4.2e8  # H.264 by ffmpeg: 5 minutes of 1080p25 in 18.4 s on two cores
JPEG_BYTES_PER_PIXEL = 0.25  # at quality 92, 4:4:4
RESERVE_BYTES = 200 * 10**6  # tables, and what others write meanwhile


@dataclass(frozen=True)
class Shape:
    """What decides a video's cost: its length, its size as displayed, and the pixels to decode for each second."""

    duration_s: float
    width: int
    height: int
    pixels_per_s: float


TYPICAL = Shape(1.0, 1920, 1080, 1920 * 1080 * 25.0)
TYPICAL_BYTES_PER_S = 625_000.0  # 5 Mb/s


@dataclass(frozen=True)
class Estimate:
    """``seconds`` of work (None: not measured) for ``video_hours`` of video, ``bytes`` in the library.

    ``probed`` of ``videos`` were read for it. ``remote`` of them are on S3, of which none is read: their length is
    inferred from their bytes.
    """

    videos: int
    probed: int
    remote: int
    video_hours: float
    segments: int
    bytes: int
    seconds: float | None = None

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @property
    def basis(self) -> str:
        """What the estimate is inferred from, as a sentence; empty where every video was read."""
        if self.probed == self.videos:
            return ""
        remote = f" ({self.remote} on S3)" if self.remote else ""
        like, others = "alike", counted(self.videos - self.probed, "other video")
        if not self.probed:
            like, others = f"1080p of {TYPICAL_BYTES_PER_S * 8 / 1e6:.0f} Mb/s", counted(self.videos, "video")
        return f"read for this: {counted(self.probed, 'file')}; taken to be {like}, by their size: {others}{remote}"


@dataclass(frozen=True)
class ModelCost:
    """What one visual token costs: its bytes in the library, and the seconds to compute them (None: not measured)."""

    bytes_per_token: float
    seconds_per_token: float | None = None


def estimate(tasks: Sequence[Task], spec: IndexSpec, geometry: FrameGeometry, cost: ModelCost) -> Estimate:
    """What ``tasks`` will take. At most ``MOST_PROBES`` local files are probed; the others are taken to be alike."""
    probed = {task.source.uri: shape for task in _sample(tasks) if (shape := _probed(task)) is not None}
    sizes = sum(task.source.size for task in tasks if task.source.uri in probed)
    rate = sizes / sum(shape.duration_s for shape in probed.values()) if probed else TYPICAL_BYTES_PER_S
    typical = next(iter(probed.values()), TYPICAL)
    shapes = [
        probed.get(task.source.uri) or replace(typical, duration_s=task.source.size / max(rate, 1.0)) for task in tasks
    ]
    counts = [_counts(shape, spec, geometry) for shape in shapes]
    tokens, pixels = sum(count[1] for count in counts), sum(count[2] for count in counts)
    decoding = sum(shape.duration_s * shape.pixels_per_s for shape in shapes) / PIXELS_PER_CORE_S
    encoding = None if cost.seconds_per_token is None else tokens * cost.seconds_per_token
    return Estimate(
        videos=len(tasks),
        probed=len(probed),
        remote=sum(_is_remote(task) for task in tasks),
        video_hours=sum(shape.duration_s for shape in shapes) / 3600,
        segments=sum(count[0] for count in counts),
        bytes=int(tokens * cost.bytes_per_token + pixels * JPEG_BYTES_PER_PIXEL),
        seconds=None if encoding is None else encoding + decoding / cpu_count(),
    )


def check_space(needed: Estimate, free_bytes: int, place: str) -> None:
    """NoSpace if ``needed`` and a reserve do not fit into the ``free_bytes`` at ``place``."""
    wanted = needed.bytes + RESERVE_BYTES
    if wanted > free_bytes:
        raise NoSpace(
            f"about {wanted / 1e9:.1f} GB are needed at {place} for {counted(needed.videos, 'video')}, "
            f"{free_bytes / 1e9:.1f} GB "
            "are free: free some, run `tempo prune`, or index fewer at once"
        )


def model_cost(model: ModelIdentity, spec: IndexSpec, keep: Keep) -> ModelCost:
    return ModelCost(model.token_bytes(spec.state_dtype) if keep == "states" else 0.0)


def timed_cost(checkpoint: Checkpoint, spec: IndexSpec, keep: Keep) -> ModelCost:
    """``model_cost`` with the seconds measured on one segment."""
    segment = _blank(spec.segment_frames, TYPICAL, checkpoint.geometry)
    _index_segment(checkpoint, spec, segment)  # the first pass warms up
    began = time.monotonic()
    tokens = _index_segment(checkpoint, spec, segment)
    return replace(model_cost(checkpoint, spec, keep), seconds_per_token=(time.monotonic() - began) / tokens)


def _index_segment(checkpoint: Checkpoint, spec: IndexSpec, segment: SegmentPixels) -> int:
    states = checkpoint.router.encode([segment], state_dtype=spec.state_dtype)
    checkpoint.featurer.features(states)
    return int(states[0].rows.shape[1])


def _blank(frames: int, shape: Shape, geometry: FrameGeometry) -> SegmentPixels:
    width, height = frame_size(shape.width, shape.height, geometry)
    patches, grid_thw = patchify(np.zeros((frames, height, width, 3), np.uint8))
    return SegmentPixels(patches, grid_thw, tuple(float(pair) for pair in range(grid_thw[0])))


def _sample(tasks: Sequence[Task]) -> list[Task]:
    """Tasks with local files of all sizes, as many as may be probed, and within the bytes that may be read for it."""
    by_size = sorted((task for task in tasks if not _is_remote(task)), key=lambda task: task.source.size)
    step = max(1, math.ceil(len(by_size) / MOST_PROBES))
    chosen, left = [], MOST_PROBED_BYTES
    for task in by_size[step // 2 :: step]:
        left -= task.source.size
        chosen += [task] if left >= 0 else []
    return chosen


def _probed(task: Task) -> Shape | None:
    if task.known is not None:
        facts = task.known.facts
        return Shape(facts.duration_s, facts.width, facts.height, 0.0)  # nothing to decode if its frames were kept
    try:
        info = probe(local_path(task.source.uri))
    except TempoError:  # it is reported when the file's turn comes
        return None
    duration_s = float(info.duration)
    return Shape(duration_s, info.width, info.height, info.frame_count * info.width * info.height / duration_s)


def _is_remote(task: Task) -> bool:
    """Whether the source is on S3 and must be fetched to be read; one of known content need not."""
    return task.source.uri.startswith("s3://") and task.known is None


def _counts(shape: Shape, spec: IndexSpec, geometry: FrameGeometry) -> tuple[int, int, int]:
    """(segments, visual tokens, pixels of kept frames)."""
    frames = sample_frames(max(Fraction(shape.duration_s), Fraction(1, 1000)), spec).count
    width, height = frame_size(shape.width, shape.height, geometry)
    tokens = math.ceil(frames / 2) * visual_tokens(width, height)
    return math.ceil(frames / spec.segment_frames), tokens, frames * width * height
