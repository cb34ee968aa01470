"""What a packet scan found out about a video file: its true times, its size as displayed, and how to show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tempo_core.decoding.keyframes import key_ranks
from tempo_core.sampling import Sampling, sample_frames
from tempo_core.spec import IndexSpec

TickArray = npt.NDArray[np.int64]
MarkArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ColorTags:
    """How the decoded samples are to be read, in ffmpeg's names; None where the file does not tell. ``refused``: the
    tags whose values ffmpeg does not know, so that they must be taken off the pictures."""

    transfer: str | None = None
    matrix: str | None = None
    primaries: str | None = None
    refused: tuple[str, ...] = ()

    @property
    def is_hdr(self) -> bool:
        """Perceptual quantizer or hybrid log-gamma: brightness that must be mapped to a normal picture."""
        return self.transfer in ("smpte2084", "arib-std-b67")


@dataclass(frozen=True)
class Clock:
    """How the times that a decoder gives to frames become ticks.

    ``complete``: each packet has a presentation time of its own, so decoding times are not needed, and not believed.
    ``first``: where frames are late by an unknown but constant time, because the file has decoding times only: when
    the first frame is shown that can be decoded; else None. ``shifts``: the ticks to add from the first, second, ...
    time on that the file's own times start anew, counted from the beginning.
    """

    complete: bool = False
    first: int | None = None
    shifts: tuple[int, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether frames' own times are ticks, so that decoding may begin anywhere."""
        return self.first is None and not self.shifts


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """One video stream, as found by reading every packet and decoding hardly any.

    ``width``, ``height``: as displayed, in square pixels, after rotation. ``duration``: last frame's time + its
    length - first frame's time, seconds. ``start``: the first frame's time on the timeline that players show
    (from the earliest picture or sound), so that start + a citation's time is where to open the player.
    ``ticks``: int64 [frame_count], each frame's presentation time in units of ``time_base``, ascending.
    ``keys``: bool [frame_count], which frames the file marks as key frames: decodable without any other.
    ``clock``: how the times that a decoder gives to frames become ticks. ``interlaced``: ticks may count both fields
    of one picture.
    ``crop``: (width, height, left, top) of what the container leaves of the coded picture; None: all of it.
    ``orientation``: ffmpeg filters, (name, argument), that turn the picture upright. ``encrypted``: packets are marked
    so, which need not be true.
    """

    width: int
    height: int
    duration: Fraction
    start: Fraction
    frame_count: int
    codec: str
    stream_index: int
    warnings: tuple[str, ...]
    time_base: Fraction
    ticks: TickArray = field(repr=False)
    keys: MarkArray = field(repr=False)
    clock: Clock = Clock()
    interlaced: bool = False
    crop: tuple[int, int, int, int] | None = None
    orientation: tuple[tuple[str, str], ...] = ()
    color: ColorTags = ColorTags()
    encrypted: bool = False

    @property
    def slack(self) -> int:
        """For how many ticks a decoder may be off: by rounding, or since a picture's time is that of its other
        field."""
        return 1 + (self.typical_gap if self.interlaced else 0)

    @property
    def typical_gap(self) -> int:
        """The median distance between frames, in ticks; 0 for one frame."""
        return int(np.median(np.diff(self.ticks))) if len(self.ticks) > 1 else 0

    def sampling(self, spec: IndexSpec) -> Sampling:
        """When this video is sampled under ``spec``; one sample where it has one frame."""
        if spec.sampling == "keyframes":
            ranks = key_ranks(self.ticks, self.keys, self.duration / self.time_base, 1 / self.time_base, spec)
            times_s = tuple(int(self.ticks[rank] - self.ticks[0]) * self.time_base for rank in ranks)
            return Sampling(len(times_s), self.duration, times_s)
        return sample_frames(self.duration, spec, single_frame=self.frame_count == 1)
