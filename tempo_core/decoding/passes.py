"""The frames that a plan needs, in order, from one run of ffmpeg or several.

Uniform samples come from one pass over everything. Key frames come from a pass that decodes nothing else; frames
between them from short passes that begin at the key frame before. Where that would save little, or where marks of key
frames are no guide (a file without times, fields coded apart), one pass over everything again. The marks are the
file's word only, and H.264's decoder loses key frames of open groups of pictures: if a frame is missing where they
led, it and all that follow are looked for in a whole pass.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from types import TracebackType

import numpy as np

from tempo_core.decoding.binary import find_ffmpeg
from tempo_core.decoding.child import Child, Deadline
from tempo_core.decoding.frame_pipe import TimedFrame, timed_frames
from tempo_core.decoding.graph import Pass, Source, command
from tempo_core.decoding.schedule import Schedule, named, selection
from tempo_core.decoding.video import TickArray, VideoInfo

_START_FRAMES = 100  # what starting ffmpeg and seeking costs, in decoded frames
_WORTH_SHARE = 0.5  # of all frames: with more to decode between key frames, one pass is as good

_Ticks = Generator[TimedFrame, None, TickArray]


@dataclass(frozen=True, eq=False)
class Stretch:
    """Frames between key frames, ``ticks`` int64 [n], and the tick of the key frame to ``begin`` at."""

    begin: int
    ticks: TickArray


class Passes:
    """Runs ffmpeg as often as needed. Use as a context manager: leaving it ends every run."""

    def __init__(self, source: Source, deadline: Deadline) -> None:
        self.warnings: list[str] = []
        self.said_something = False  # whether ffmpeg wrote any message
        self._source, self._deadline, self._ffmpeg = source, deadline, find_ffmpeg()
        self._open = ExitStack()
        self._waited_s = 0.0
        self._complaints: list[str] = []

    def frames(self, plan: Schedule, evenly: bool) -> Iterator[TimedFrame]:
        """Every frame of ``plan`` that can be decoded, in order, and some others."""
        if evenly:
            return self._whole(selection(self._source.info, plan))
        found = stretches(self._source.info, plan)
        if found is None:
            return self._whole(named(self._source.info, np.unique(plan.due)))
        keys = plan.due[self._source.info.keys[plan.expected]]
        return heapq.merge(self._keyed(keys), self._between(found), key=attrgetter("tick"))

    def complaint(self) -> str:
        """Why frames are missing: what the first run that complained said."""
        return self._complaints[0] if self._complaints else "ffmpeg gave no reason"

    def _whole(self, select: str | None, silent_share: float = 0.0) -> Iterator[TimedFrame]:
        """``silent_share`` of the video is decoded before the first frame that is wanted."""
        with self._running(Pass(select), silent_share) as frames:
            yield from frames

    def _keyed(self, ticks: TickArray) -> Iterator[TimedFrame]:
        lost = yield from self._trusting(Pass(named(self._source.info, ticks), keys_only=True), ticks)
        yield from self._searched(lost)

    def _between(self, found: list[Stretch]) -> Iterator[TimedFrame]:
        for index, stretch in enumerate(found):
            select = f"{named(self._source.info, stretch.ticks)}+gt(pts,{stretch.ticks[-1]})"
            lost = yield from self._trusting(Pass(select, begin=stretch.begin), stretch.ticks)
            if len(lost):
                yield from self._searched(np.concatenate([lost, *(later.ticks for later in found[index + 1 :])]))
                return

    def _trusting(self, run: Pass, ticks: TickArray) -> _Ticks:
        """The frames of ``ticks`` until one is missing; what is missing from there on."""
        given = 0
        with self._running(run) as frames:
            for frame in frames:
                if given == len(ticks) or frame.tick > ticks[given]:
                    break
                if frame.tick == ticks[given]:
                    given += 1
                    yield frame
                if given == len(ticks):
                    break
        return ticks[given:]

    def _searched(self, lost: TickArray) -> Iterator[TimedFrame]:
        if not len(lost):
            return
        info = self._source.info
        first_s = float((int(lost[0]) - int(info.ticks[0])) * info.time_base)
        self.warnings.append(f"the decoder leaves out a key frame at {first_s:.1f} s, so all frames were decoded")
        for frame in self._whole(named(info, lost), first_s / float(info.duration)):
            if frame.tick >= lost[0]:
                yield frame

    @contextmanager
    def _running(self, run: Pass, silent_share: float = 0.0) -> Iterator[Iterator[TimedFrame]]:
        """The frames of one run of ffmpeg, which is over when the block is left."""
        allowed = self._deadline
        left = Deadline(allowed.total_s - self._waited_s, allowed.stall_s + allowed.total_s * silent_share)
        child = self._open.enter_context(Child(command(self._ffmpeg, self._source, run), left, "ffmpeg"))
        with closing(self._read(child)) as frames:
            yield frames
        child.close()
        self._waited_s += child.waited_s
        if child.messages():
            self.said_something = True
            self._complaints.append(child.complaint())

    def _read(self, child: Child) -> Generator[TimedFrame, None, None]:
        yield from timed_frames(child, self._source.info, self._source.size)
        if child.finish():
            self._complaints.append(child.complaint())

    def __enter__(self) -> Passes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def stretches(info: VideoInfo, plan: Schedule) -> list[Stretch] | None:
    """What is to be decoded between key frames; None where one pass over everything is as good, or safer."""
    keys = np.flatnonzero(info.keys)
    if info.in_order or info.interlaced or not info.keys[0] or len(keys) == info.frame_count:
        return None
    between = plan.expected[~info.keys[plan.expected]]
    before = keys[np.searchsorted(keys, between, side="right") - 1]
    apart = before[1:] > between[:-1] + _START_FRAMES  # nearer ones are reached sooner by decoding on
    cuts = np.flatnonzero(apart) + 1
    groups = zip(np.split(before, cuts), np.split(between, cuts), strict=True) if len(between) else ()
    found = [(int(begins[0]), ranks) for begins, ranks in groups]
    cost = sum(int(ranks[-1]) - begin + 1 + _START_FRAMES for begin, ranks in found)
    if cost > _WORTH_SHARE * info.frame_count:
        return None
    return [Stretch(int(info.ticks[begin]), info.ticks[ranks]) for begin, ranks in found]
