"""When frames are sampled and how they form segments (paper, implementation details).

Pure arithmetic on indices: no file is opened here. Times are seconds from the first frame's presentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from tempo_core.spec import IndexSpec


@dataclass(frozen=True)
class Sampling:
    """``count`` samples over ``duration_s``; sample i is shown at ``time_s(i)``.

    ``times_s``: when the samples are shown, ascending from 0, where they are not evenly spread; else None.
    """

    count: int
    duration_s: Fraction
    times_s: tuple[Fraction, ...] | None = None

    @property
    def real_fps(self) -> Fraction:
        """Samples per second, count / duration (exact); their mean where they are not evenly spread."""
        return self.count / self.duration_s

    def time_s(self, index: int) -> Fraction:
        """The exact presentation time of sample ``index``; from ``count`` on, index / ``real_fps`` (for the end and the
        tag of the last segment)."""
        if self.times_s is None or index >= self.count:
            return index / self.real_fps
        return self.times_s[index]

    @property
    def longest_gap_s(self) -> Fraction:
        """The longest time from a sample to the next or to the end."""
        if self.times_s is None:
            return 1 / self.real_fps
        return max(after - before for before, after in pairwise((*self.times_s, self.duration_s)))


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
    uncapped = round(duration_s * Fraction(spec.frames_per_second).limit_denominator(10**6))
    count = max(spec.min_frames, uncapped)
    if spec.max_frames is not None:
        count = min(count, spec.max_frames)
    return Sampling(1 if single_frame else count, duration_s)


def segment_spans(sampling: Sampling, spec: IndexSpec) -> list[SegmentSpan]:
    """Consecutive windows of ``spec.segment_frames`` samples, the last perhaps shorter.

    A pair's time is the mean of its two samples' times; an odd count repeats its last frame, which counts as the next
    index in its pair's time. The tag is the centre of the whole window, halfway from its first sample to the next
    window's, also where the window is short: evenly spread, (first + segment_frames / 2) / real_fps.
    """
    step = spec.segment_frames
    spans = []
    for index, first in enumerate(range(0, sampling.count, step)):
        count = min(step, sampling.count - first)
        spans.append(
            SegmentSpan(
                index=index,
                first=first,
                count=count,
                pair_times_s=tuple(_halfway(sampling, pair, pair + 1) for pair in range(first, first + count, 2)),
                tag_time_s=_halfway(sampling, first, first + step),
                start_s=float(sampling.time_s(first)),
                end_s=float(min(sampling.time_s(first + count), sampling.duration_s)),
            )
        )
    return spans


def _halfway(sampling: Sampling, index: int, later: int) -> float:
    return float((sampling.time_s(index) + sampling.time_s(later)) / 2)
