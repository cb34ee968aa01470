"""What a run looks like at one moment: small values that the live view draws, metrics count and the report charts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VideoProgress:
    """A video under way: sampled frames encoded so far, and in all (0 until the first is); ``video_s``: the seconds of
    video that they cover."""

    uri: str
    frames: int
    total: int
    segment_frames: int
    video_s: float = 0.0


@dataclass(frozen=True)
class Spent:
    """Seconds of work, summed over videos and processes: they may overlap, so they can exceed the run's own time.

    ``fetch_s``: bringing and hashing a source; ``decode_s``: ffmpeg and JPEG; ``encode_s``: the model; ``write_s``:
    parts and segment rows.
    """

    fetch_s: float = 0.0
    decode_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.fetch_s + other.fetch_s,
            self.decode_s + other.decode_s,
            self.encode_s + other.encode_s,
            self.write_s + other.write_s,
        )


@dataclass(frozen=True)
class Snapshot:
    """A run, ``elapsed_s`` seconds after it began.

    ``settled`` of ``videos`` to do are settled; ``source_bytes`` of ``all_source_bytes`` of files are done with.
    ``segments``, ``video_s`` (seconds of video) and ``state_bytes`` were indexed. ``waiting``: videos not begun;
    ``queued_segments``: decoded, waiting for an encoder. ``encoder_share``: the share of the time since the last
    snapshot that the encoders were computing, 0..1. ``under_way``: the videos in between.
    """

    elapsed_s: float
    videos: int
    settled: int
    failed: int
    segments: int
    video_s: float
    state_bytes: int
    source_bytes: int
    all_source_bytes: int
    waiting: int
    queued_segments: int
    encoders: int
    encoder_share: float
    spent: Spent = Spent()
    under_way: tuple[VideoProgress, ...] = ()

    @property
    def video_hours_per_hour(self) -> float:
        """Hours of video indexed per hour of the run so far."""
        return self.video_s / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Time left if the rest goes as fast by source bytes as what is settled; None before anything is."""
        if not self.source_bytes or self.elapsed_s <= 0:
            return None
        return self.elapsed_s * (self.all_source_bytes - self.source_bytes) / self.source_bytes
