"""The states of segments: read where the library keeps them, else computed from its frames as indexing would have.

In two steps, for two threads: what is kept is read, and frames are decoded, beside the device's work; the vision tower
runs on the device's own thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from serving.kept_frames import kept_frames
from serving.kv_tiers import SegmentKey
from serving.selection import SelectedSegment
from storage import Library
from tempo_core.errors import CorruptPart, VideoError
from tempo_core.host import cpu_count, memory_bytes
from tempo_core.pixels import ENCODED_AT_A_TIME, kept_pixels
from tempo_core.router import Router
from tempo_core.values import SegmentPixels, SegmentState

DECODING_THREADS = min(8, cpu_count())
COMPUTED_SHARE = 1 / 32  # of the memory that this process may use, for states that were computed

Kept = SegmentState | SegmentPixels  # of a segment: its state, or its frames as the vision tower takes them


class SegmentStates:
    """Those that are computed stay in host memory for a while: a reader of frame pairs needs them once more."""

    def __init__(self, library: Library, router: Router) -> None:
        self._library, self._router = library, router
        self._computed: OrderedDict[SegmentKey, SegmentState] = OrderedDict()
        self._bytes, self._room = 0, int(memory_bytes() * COMPUTED_SHARE)
        self._lock = threading.Lock()

    def load(self, segments: Sequence[SelectedSegment]) -> list[Kept]:
        """In order. Each video's are read at once: segments that lie side by side in a part are one range read.

        CorruptPart where what the library keeps of one cannot be used.
        """
        kept: list[Kept] = []
        for _, members in groupby(segments, key=lambda segment: segment.key.generation):
            same_video = list(members)
            if (video := same_video[0].video).states_part is not None:
                kept += self._library.read_states(video, segments=[segment.record for segment in same_video])
            else:
                kept += self._from_frames(same_video)
        return kept

    def computed(self, segments: Sequence[SelectedSegment], kept: Sequence[Kept]) -> list[SegmentState]:
        """The states of what ``load`` gave, in batches as in indexing: a video asked about whole has the very states
        that would have been stored."""
        states: list[SegmentState] = []
        for _, members in groupby(zip(segments, kept, strict=True), key=lambda one: one[0].key.generation):
            of_video = list(members)
            absent = [(segment, pixels) for segment, pixels in of_video if isinstance(pixels, SegmentPixels)]
            encoded = {segment.key: state for segment, state in self._encoded(absent)}
            states += [encoded[segment.key] if isinstance(one, SegmentPixels) else one for segment, one in of_video]
            self._keep(encoded)
        return states

    def _from_frames(self, segments: Sequence[SelectedSegment]) -> list[Kept]:
        """Of one video: pixels, but for those whose states were computed lately."""
        with self._lock:
            found: dict[SegmentKey, Kept] = {
                segment.key: self._computed[segment.key] for segment in segments if segment.key in self._computed
            }
        absent = [segment for segment in segments if segment.key not in found]
        if absent:
            frames = kept_frames(self._library, absent[0].video, [segment.record for segment in absent])
            with ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode-frames") as threads:
                pixels = threads.map(_pixels, absent, [jpegs for jpegs, _ in frames])
                found |= zip((segment.key for segment in absent), pixels, strict=True)
        return [found[segment.key] for segment in segments]

    def _encoded(
        self, absent: Sequence[tuple[SelectedSegment, SegmentPixels]]
    ) -> list[tuple[SelectedSegment, SegmentState]]:
        states: list[SegmentState] = []
        for start in range(0, len(absent), ENCODED_AT_A_TIME):
            chunk = absent[start : start + ENCODED_AT_A_TIME]
            dtype = chunk[0][0].video.facts.spec.state_dtype
            states += self._router.encode([pixels for _, pixels in chunk], state_dtype=dtype)
        return [(segment, state) for (segment, _), state in zip(absent, states, strict=True)]

    def _keep(self, states: dict[SegmentKey, SegmentState]) -> None:
        """What was computed first goes first."""
        with self._lock:
            for key, state in states.items():
                before = self._computed.pop(key, None)
                self._computed[key] = state
                self._bytes += state.rows.nbytes - (0 if before is None else before.rows.nbytes)
            while self._bytes > self._room:
                self._bytes -= self._computed.popitem(last=False)[1].rows.nbytes


def _pixels(segment: SelectedSegment, jpegs: Sequence[bytes]) -> SegmentPixels:
    record = segment.record
    try:
        pixels = kept_pixels(jpegs, record.span.pair_times_s)
    except VideoError as error:
        raise CorruptPart(f"{segment.video.title}, segment {record.index}: {error}") from error
    if pixels.grid_thw != record.state.grid_thw:
        raise CorruptPart(
            f"{segment.video.title}, segment {record.index}: its frames are not those it was indexed from"
        )
    return pixels
