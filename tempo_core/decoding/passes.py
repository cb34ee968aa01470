"""The frames that samples are due to show, in order, from one run of ffmpeg or several.

Evenly spread samples come from one pass over everything. Key frames come from a pass that decodes nothing else, and
frames between them from short passes that begin at the key frame before. One pass over everything serves again where
that would save little, or where the marks of key frames cannot be trusted to lead there: in a file without times, or
with fields that are coded apart.

Those marks are only what the file claims, and H.264's decoder drops key frames of open groups of pictures. If a frame
is missing where the marks led, a pass over everything is made for it and all that follow.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from types import TracebackType

import numpy as np

from tempo_core.decoding.binary import expect_running, find_ffmpeg
from tempo_core.decoding.blame import refuse_circumstances
from tempo_core.decoding.child import Child, Deadline
from tempo_core.decoding.due_frames import DueFrames, select_expression, select_ticks
from tempo_core.decoding.frame_pipe import TimedFrame, timed_frames
from tempo_core.decoding.graph import Pass, Source, command
from tempo_core.decoding.probing import FORMATS
from tempo_core.decoding.video import TickArray, VideoInfo
from tempo_core.errors import DecoderDied

_START_FRAMES = 100  # what starting ffmpeg and seeking costs, in decoded frames
_WORTH_SHARE = 0.5  # with more than this share of all frames to decode between key frames, one pass is as good

_SOUND = "aac ac3 adpcm alac amr dca eac3 flac mp2 mp3 opus pcm truehd vorbis wma ain# aist#"
_OTHER_SPEAKERS = re.compile(f"(in#|({FORMATS.replace(',', '|')})$|{_SOUND.replace(' ', '|')})")

_FramesThenMissing = Generator[TimedFrame, None, TickArray]  # yields frames, returns the ticks it did not find


@dataclass(frozen=True, eq=False)
class Stretch:
    """Due frames between key frames, ``ticks`` int64 [n], and the tick of the key frame to ``begin`` decoding at."""

    begin: int
    ticks: TickArray


class Passes:
    """Runs ffmpeg as often as needed. Use as a context manager: leaving it ends every run."""

    def __init__(self, source: Source, deadline: Deadline) -> None:
        self.warnings: list[str] = []
        self._source, self._deadline, self._ffmpeg = source, deadline, find_ffmpeg()
        self._open = ExitStack()
        self._waited_s = 0.0
        self._complaints: list[str] = []
        self._messages: list[str] = []

    def frames(self, due: DueFrames, evenly: bool) -> Iterator[TimedFrame]:
        """Every due frame that can be decoded, in order, and some others. ``evenly``: how the samples are spread."""
        if evenly:
            return self._of_whole_video(select_expression(self._source.info, due))
        between = stretches(self._source.info, due)
        if between is None:
            return self._of_whole_video(select_ticks(self._source.info, np.unique(due.sample_ticks)))
        keys = due.sample_ticks[self._source.info.keys[due.ranks]]
        return heapq.merge(self._key_frames(keys), self._between_key_frames(between), key=attrgetter("tick"))

    def refuse_circumstances(self, nothing_came: bool) -> None:
        """SourceError or DecoderDied where frames are missing through no fault of the file's bytes."""
        refuse_circumstances(self._source.path, self._messages, nothing_came)

    @property
    def had_messages(self) -> bool:
        """Whether ffmpeg wrote any about the pictures."""
        return any(map(self._concerns_pictures, self._messages))

    def complaint(self) -> str:
        """Why frames are missing: the reason of the first run that gave one."""
        return self._complaints[0] if self._complaints else "ffmpeg gave no reason"

    def _of_whole_video(self, select: str | None, silent_share: float = 0.0) -> Iterator[TimedFrame]:
        """``silent_share``: of the video, which ffmpeg decodes before the first frame that it hands over."""
        with self._running(Pass(select), silent_share) as frames:
            yield from frames

    def _key_frames(self, ticks: TickArray) -> Iterator[TimedFrame]:
        select = select_ticks(self._source.info, ticks)
        missing = yield from self._until_one_is_missing(Pass(select, keys_only=True), ticks)
        yield from self._in_whole_video(missing)

    def _between_key_frames(self, between: list[Stretch]) -> Iterator[TimedFrame]:
        for index, stretch in enumerate(between):
            select = f"{select_ticks(self._source.info, stretch.ticks)}+gt(pts,{stretch.ticks[-1]})"
            missing = yield from self._until_one_is_missing(Pass(select, begin=stretch.begin), stretch.ticks)
            if len(missing):
                later = (stretch.ticks for stretch in between[index + 1 :])
                yield from self._in_whole_video(np.concatenate([missing, *later]))
                return

    def _until_one_is_missing(self, run: Pass, ticks: TickArray) -> _FramesThenMissing:
        """The frames of ``ticks`` up to the first that does not come; then the ticks from that one on."""
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

    def _in_whole_video(self, missing: TickArray) -> Iterator[TimedFrame]:
        """The frames of ``missing`` ticks, by decoding everything."""
        if not len(missing):
            return
        info = self._source.info
        first_s = float((int(missing[0]) - int(info.ticks[0])) * info.time_base)
        self.warnings.append(f"the decoder leaves out a key frame at {first_s:.1f} s, so all frames were decoded")
        for frame in self._of_whole_video(select_ticks(info, missing), first_s / float(info.duration)):
            if frame.tick >= missing[0]:
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
        if messages := child.messages():
            self._complaints.append(child.complaint(self._concerns_pictures))
            self._messages += messages

    def _read(self, child: Child) -> Generator[TimedFrame, None, None]:
        yield from timed_frames(child, self._source.info, self._source.size)
        try:
            if child.finish():
                self._complaints.append(child.complaint(self._concerns_pictures))
        except DecoderDied:
            expect_running(self._ffmpeg)
            raise

    def _concerns_pictures(self, message: str) -> bool:
        """False for what ffmpeg says about the container or the sound: "[matroska,webm @ 0x55...] ..."."""
        begin = re.match(r"\[([^]@]+) @", message)
        names = begin[1].split(",") if begin else []
        return not any(_OTHER_SPEAKERS.match(name) for name in names if name != self._source.info.codec)

    def __enter__(self) -> Passes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def stretches(info: VideoInfo, due: DueFrames) -> list[Stretch] | None:
    """The due frames between key frames; None where one pass over everything is as good, or safer."""
    keys = np.flatnonzero(info.keys)
    if not info.clock.is_plain or info.interlaced or not info.keys[0] or len(keys) == info.frame_count:
        return None
    between = due.ranks[~info.keys[due.ranks]]
    before = keys[np.searchsorted(keys, between, side="right") - 1]
    apart = before[1:] > between[:-1] + _START_FRAMES  # nearer ones are reached sooner by decoding on
    cuts = np.flatnonzero(apart) + 1
    groups = zip(np.split(before, cuts), np.split(between, cuts), strict=True) if len(between) else ()
    begins = [(int(keys_before[0]), ranks) for keys_before, ranks in groups]
    cost = sum(int(ranks[-1]) - begin + 1 + _START_FRAMES for begin, ranks in begins)
    if cost > _WORTH_SHARE * info.frame_count:
        return None
    return [Stretch(int(info.ticks[begin]), info.ticks[ranks]) for begin, ranks in begins]
