"""Sampled frames of a video, segment by segment, streamed from ffmpeg in constant memory."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from tempo_core.decoding.binary import find_ffmpeg
from tempo_core.decoding.child import Deadline
from tempo_core.decoding.due_frames import DueFrames, due_frames
from tempo_core.decoding.frame_pipe import TimedFrame
from tempo_core.decoding.graph import Source, tone_maps
from tempo_core.decoding.passes import Passes
from tempo_core.decoding.reasons import decoding_reason
from tempo_core.decoding.video import VideoInfo
from tempo_core.errors import DecoderDied, UsageError, VideoError
from tempo_core.geometry import frame_size
from tempo_core.sampling import Sampling
from tempo_core.spec import FrameGeometry, IndexSpec
from tempo_core.values import SegmentFrames

_STALL_VARIABLE = "TEMPO_STALL_S"

# A decoder is taken for hung if it is slower than a tenth of real time (8K on two cores comes near it), or if it gives
# nothing for a minute (TEMPO_STALL_S) and the time that it needs at that speed from one sample to the next.
_SLOWEST_SHARE = 10.0
_LEAST_S = 120.0
_STALL_S = 60.0

_FEW_PIXELS = 20e6  # of all frames together: more threads take longer to start than they save


def read_segments(
    path: str | os.PathLike[str],
    info: VideoInfo,
    spec: IndexSpec,
    geometry: FrameGeometry,
    *,
    threads: int | None = None,
) -> SegmentReader:
    """Frames of ``path`` as ``spec`` samples them, at the size that ``geometry`` gives. Iterate over the result.

    ``threads``: how many the decoder may use; None: one for a short clip, else as many as ffmpeg takes, which is one
    per core; the pixels are the same. VideoError where fewer than half of the samples can be decoded, DecodeTimeout
    where ffmpeg hangs or keeps waiting for longer than ten times the duration (and two minutes); both may come after
    some segments were given.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return SegmentReader(os.path.abspath(os.fspath(path)), info, spec, geometry, threads)


@dataclass(frozen=True)
class _Sample:
    """``frame``: what the sample shows. ``decoded``: False where it stands in for the due frame."""

    frame: TimedFrame
    decoded: bool


class SegmentReader:
    """An iterator of SegmentFrames, in order. ``close`` (or leaving a ``with``) stops ffmpeg early.

    Each sample shows its due frame: the last one presented at or before it. Where that could not be decoded, the latest
    frame before it stands in (at the beginning the next frame, whose time is then later than the sample's). Once the
    iterator has ended, ``missing_samples`` is the number of such samples, and ``warnings`` holds what went wrong while
    decoding (the VideoInfo has its own).
    """

    def __init__(
        self,
        path: str,
        info: VideoInfo,
        spec: IndexSpec,
        geometry: FrameGeometry,
        threads: int | None,
    ) -> None:
        self.info, self.spec = info, spec
        self.sampling: Sampling = info.sampling(spec)
        self.size = frame_size(info.width, info.height, geometry)
        self.missing_samples = 0
        self.warnings: tuple[str, ...] = ()
        self._path, self._threads = path, threads
        self._deadline = _deadline(self.sampling)
        self._segments = self._run()

    def __iter__(self) -> Iterator[SegmentFrames]:
        return self

    def __next__(self) -> SegmentFrames:
        return next(self._segments)

    def close(self) -> None:
        """Stop ffmpeg now. Harmless at any time."""
        self._segments.close()

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> Generator[SegmentFrames, None, None]:
        due = due_frames(self.info, self.sampling)
        threads = self._threads or _threads_for(self.info)
        source = Source(self._path, self.info, self.size, threads, self.spec.decoder)
        try:
            with Passes(source, self._deadline) as passes:
                frames = passes.frames(due, evenly=self.sampling.times_s is None)
                yield from self._segmented(_samples(frames, self.info, due), passes)
                self.warnings = tuple(self._judge(passes))
        except DecoderDied as error:
            if self.spec.decoder == "software":
                raise
            raise DecoderDied(f"the decoder ended{self._way_out()}: {error}") from error

    def _segmented(self, samples: Iterator[_Sample], passes: Passes) -> Iterator[SegmentFrames]:
        total, step, window = self.sampling.count, self.spec.segment_frames, list[_Sample]()
        done = 0
        for sample in samples:
            window.append(sample)
            done += 1
            self.missing_samples += not sample.decoded
            if len(window) == step or done == total:
                yield self._segment((done - 1) // step, window)
                window = []
        if not done:
            passes.refuse_circumstances(nothing_came=True)
            self._refuse_encrypted()
            raise VideoError(f"no frame could be decoded{self._way_out()}: {self._reason(passes)}")

    def _segment(self, index: int, window: list[_Sample]) -> SegmentFrames:
        times = tuple(float(sample.frame.time_s) for sample in window)
        return SegmentFrames(index, np.stack([sample.frame.pixels for sample in window]), times)

    def _way_out(self) -> str:
        if self.spec.decoder == "software":
            return ""
        return f" on the GPU (a spec that decodes in software may take this {self.info.codec} video)"

    def _reason(self, passes: Passes) -> str:
        complaint = passes.complaint()
        return f"{complaint}; {decoding_reason(complaint, self.info.codec)}"

    def _judge(self, passes: Passes) -> Iterator[str]:
        total, missing = self.sampling.count, self.missing_samples
        if missing:
            passes.refuse_circumstances(nothing_came=2 * missing > total)
        if missing or passes.had_messages:
            self._refuse_encrypted()
        if 2 * missing > total:
            raise VideoError(f"only {total - missing} of {total} samples could be decoded: {self._reason(passes)}")
        yield from passes.warnings
        if missing:
            yield f"{missing} of {total} samples could not be decoded; neighbours stand in: {passes.complaint()}"
        elif passes.had_messages:
            yield f"the decoder met errors, pictures may be damaged: {passes.complaint()}"
        if self.info.color.is_hdr and not tone_maps(find_ffmpeg(), self.info):
            yield "HDR pictures were taken without tone mapping: this ffmpeg lacks zscale"
        yield from self._gap_warnings()

    def _refuse_encrypted(self) -> None:
        """Packets may be marked as encrypted that are not: only together with errors it is a reason."""
        if self.info.encrypted:
            raise VideoError("its pictures are encrypted and cannot be read; index a copy that is not")

    def _gap_warnings(self) -> Iterator[str]:
        gap_s, most = self.sampling.longest_gap_s, self.spec.max_frames
        if self.sampling.times_s is None or most is None or gap_s <= self.spec.max_gap_s:
            return
        uncapped = self.info.sampling(replace(self.spec, max_frames=None))
        if gap_s > uncapped.longest_gap_s:
            yield f"frames lie up to {float(gap_s):.1f} s apart: the index spec takes at most {most} of a video"


def _deadline(sampling: Sampling) -> Deadline:
    total_s = max(_LEAST_S, _SLOWEST_SHARE * float(sampling.duration_s))
    return Deadline(total_s, _stall_s() + _SLOWEST_SHARE * float(sampling.longest_gap_s))


def _stall_s() -> float:
    """UsageError where the user's own setting is not a number of seconds."""
    given = os.environ.get(_STALL_VARIABLE) or _STALL_S
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise UsageError(f"{_STALL_VARIABLE}={given}: give the seconds without a frame after which a decoder is hung")
    return seconds


def _threads_for(info: VideoInfo) -> int | None:
    return 1 if info.width * info.height * info.frame_count <= _FEW_PIXELS else None


def _samples(frames: Iterator[TimedFrame], info: VideoInfo, due: DueFrames) -> Iterator[_Sample]:
    """For each sample the last frame at or before it; the first one where nothing earlier was decoded."""
    ranks = due.ranks - 1 if info.interlaced else due.ranks  # a decoder merges two fields into one frame
    needed = info.ticks[np.maximum(ranks, 0)]
    index, latest = 0, None
    for frame in frames:
        if latest is not None and frame.tick <= latest.tick:
            continue
        while index < len(needed) and due.sample_ticks[index] < frame.tick:
            decoded = latest is not None and latest.tick >= needed[index]
            yield _Sample(frame if latest is None else latest, decoded)
            index += 1
        latest = frame
    if latest is not None:
        yield from (_Sample(latest, latest.tick >= tick) for tick in needed[index:].tolist())
