"""What an index is made of: how frames are sampled, sized and kept. Values only.

A spec is part of the identity of everything computed from it, so its fields are data: change one and the
fingerprints (``fingerprints.py``) change with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from tempo_core.errors import UsageError

StateDtype = Literal["float32", "bfloat16", "int8"]
SamplingRule = Literal["uniform", "keyframes"]
Decoder = Literal["software", "nvdec"]
Keep = Literal["states", "frames"]  # of a video, states and frames or frames alone; no part of its identity


@dataclass(frozen=True)
class FrameGeometry:
    """How large a frame becomes before the vision tower sees it (``geometry.frame_size``).

    The defaults are what the published weights were trained with; a checkpoint may carry its own under
    ``frame_geometry`` in its config.
    """

    longest_edge: int = 512
    edge_multiple: int = 16
    resize_multiple: int = 64
    min_resized_area: int = 4 * 64 * 64
    patch_multiple: int = 32
    min_area: int = 128 * 32 * 32
    max_area: int = 768 * 32 * 32
    max_edge_ratio: float = 200.0


@dataclass(frozen=True)
class IndexSpec:
    """How a video is sampled into frames and segments, and how its states are kept.

    ``frames_per_second`` is the aim: the number of samples is clamped to ``min_frames``..``max_frames`` (None: no
    cap) and the real rate follows from the duration (paper, implementation details).

    ``sampling`` "keyframes" takes key frames, which decode without the frames between: at most ``frames_per_second``
    of them, and where none comes for ``max_gap_s``, what frames are needed (``decoding/keyframes.py``). The default
    gap is the longest of x264 and x265, 250 frames, at film's 23.976 a second, and half a second of thinning.

    ``decoder`` "nvdec" decodes on an NVIDIA GPU and shrinks the pictures there: other pixels, so another identity.
    """

    name: str = "paper"
    frames_per_second: float = 2.0
    min_frames: int = 4
    max_frames: int | None = 1024
    segment_frames: int = 8
    jpeg_quality: int = 92
    state_dtype: StateDtype = "bfloat16"
    sampling: SamplingRule = "uniform"
    max_gap_s: float = 11.0
    decoder: Decoder = "software"

    def __post_init__(self) -> None:
        if not 0 < self.frames_per_second < inf:
            raise UsageError(f"index spec {self.name!r}: frames_per_second must be positive")
        if self.min_frames < 1:
            raise UsageError(f"index spec {self.name!r}: min_frames must be at least 1")
        if self.segment_frames < 2 or self.segment_frames % 2:
            raise UsageError(f"index spec {self.name!r}: segment_frames must be even and at least 2")
        if self.max_frames is not None and self.max_frames < self.min_frames:
            raise UsageError(f"index spec {self.name!r}: max_frames is below min_frames")
        if not 1 / self.frames_per_second <= self.max_gap_s < inf:
            raise UsageError(f"index spec {self.name!r}: max_gap_s is shorter than one frame's share of a second")


PAPER = IndexSpec()
NAMED_SPECS: dict[str, IndexSpec] = {
    "paper": PAPER,
    "paper-2048": replace(PAPER, name="paper-2048", max_frames=2048),
    "paper-int8": replace(PAPER, name="paper-int8", state_dtype="int8"),
    "dense": replace(PAPER, name="dense", max_frames=None),
    "keyframes": replace(PAPER, name="keyframes", sampling="keyframes"),
    "paper-nvdec": replace(PAPER, name="paper-nvdec", decoder="nvdec"),
    "keyframes-nvdec": replace(PAPER, name="keyframes-nvdec", sampling="keyframes", decoder="nvdec"),
}


def named_spec(name: str) -> IndexSpec:
    """The index spec of that name; UsageError lists the names there are."""
    try:
        return NAMED_SPECS[name]
    except KeyError:
        raise UsageError(f"no index spec {name!r}; choose one of: {', '.join(NAMED_SPECS)}") from None
