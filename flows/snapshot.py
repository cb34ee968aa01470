"""What a run looks like at one moment: small values that the live view draws, metrics count and the report charts."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class VideoProgress:
    """A video under way: ``frame_count`` sampled frames are encoded, of ``total_frame_count`` (0 until the first is),
    and they cover ``video_s`` seconds. A segment has ``segment_frames`` of them."""

    uri: str
    frame_count: int
    total_frame_count: int
    segment_frames: int
    video_s: float = 0.0


@dataclass(frozen=True)
class Spent:
    """Seconds of work by step, summed over videos and processes: they may overlap, so they can exceed the run's time.

    ``fetch_s``: bringing and hashing a source; ``decode_s``: ffmpeg and JPEG; ``encode_s``: the model; ``write_s``:
    parts.
    """

    fetch_s: float = 0.0
    decode_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0

    def by_step(self) -> dict[str, float]:
        """Seconds by the step's name: ``fetch``, ``decode``, ``encode``, ``write``."""
        return {field.name.removesuffix("_s"): getattr(self, field.name) for field in fields(self)}

    def __add__(self, other: Spent) -> Spent:
        return Spent(*map(sum, zip(self.by_step().values(), other.by_step().values(), strict=True)))


@dataclass(frozen=True)
class Snapshot:
    """A run, ``elapsed_s`` seconds after it began.

    ``settled`` of ``video_count`` videos are settled, ``failed`` of those failed, ``waiting`` are not begun;
    ``source_bytes`` of ``all_source_bytes`` of files are done with. ``segment_count`` segments and ``video_s`` seconds
    of video are encoded, ``state_bytes`` of settled videos are stored. ``queued_segment_count``: decoded, not yet with
    an encoder. ``encoder_share``: the share of the time since the last snapshot that the encoders were computing, 0..1.
    ``under_way``: the videos in between.
    """

    elapsed_s: float
    video_count: int
    settled: int
    failed: int
    segment_count: int
    video_s: float
    state_bytes: int
    source_bytes: int
    all_source_bytes: int
    waiting: int
    queued_segment_count: int
    encoder_count: int
    encoder_share: float
    spent: Spent = Spent()
    under_way: tuple[VideoProgress, ...] = ()

    @property
    def video_hours_per_hour(self) -> float:
        """Hours of video indexed per hour of the run so far."""
        return self.video_s / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Seconds left if the rest goes as fast by source bytes as what is settled; None before anything is."""
        if not self.source_bytes or self.elapsed_s <= 0:
            return None
        return self.elapsed_s * (self.all_source_bytes - self.source_bytes) / self.source_bytes
