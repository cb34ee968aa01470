"""When frames are sampled and how they form segments (paper, implementation details; DESIGN §3).

Pure arithmetic on indices: no file is opened here. Times are seconds from the first frame's presentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tempo_core.spec import IndexSpec


@dataclass(frozen=True)
class Sampling:
    """``count`` samples over ``duration_s``; sample i is shown at ``time_s(i)``."""

    count: int
    duration_s: Fraction

    @property
    def real_fps(self) -> Fraction:
        """Samples per second, count / duration (exact)."""
        return self.count / self.duration_s

    def time_s(self, index: int) -> Fraction:
        """The presentation time of sample ``index``: index / real_fps (exact)."""
        return index / self.real_fps


@dataclass(frozen=True)
class SegmentSpan:
    """One segment: ``count`` consecutive samples from ``first``, and the times its prompts carry."""

    index: int
    first: int
    count: int
    pair_times_s: tuple[float, ...]
    tag_time_s: float
    start_s: float
    end_s: float


def sample_frames(duration_s: Fraction, spec: IndexSpec, single_frame: bool = False) -> Sampling:
    """n = clamp(round(duration * fps), min_frames, max_frames); one sample for a video of one frame."""
    if duration_s <= 0:
        raise ValueError(f"duration must be positive, not {duration_s}")
    wanted = round(duration_s * Fraction(spec.frames_per_second).limit_denominator(10**6))
    count = max(spec.min_frames, wanted)
    if spec.max_frames is not None:
        count = min(count, spec.max_frames)
    return Sampling(1 if single_frame else count, duration_s)


def segment_spans(sampling: Sampling, spec: IndexSpec) -> list[SegmentSpan]:
    """Consecutive windows of ``spec.segment_frames`` samples, the last perhaps shorter.

    An odd count repeats its last frame, which counts as the next index in its pair's time. The tag is the centre
    of the whole window, (first + segment_frames / 2) / real_fps, also where the window is short.
    """
    step, rate = spec.segment_frames, sampling.real_fps
    spans = []
    for index, first in enumerate(range(0, sampling.count, step)):
        count = min(step, sampling.count - first)
        pairs = range(first, first + count, 2)
        spans.append(
            SegmentSpan(
                index=index,
                first=first,
                count=count,
                pair_times_s=tuple(float((pair + Fraction(1, 2)) / rate) for pair in pairs),
                tag_time_s=float((first + Fraction(step, 2)) / rate),
                start_s=float(sampling.time_s(first)),
                end_s=float(min(sampling.time_s(first + count), sampling.duration_s)),
            )
        )
    return spans
