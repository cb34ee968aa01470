"""Which segments a question is asked over: videos, a range of time, or candidates found over the whole library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.kv_tiers import SegmentKey
from storage import Library, SegmentRecord, VideoRecord
from tempo_core.errors import LibraryError, UsageError
from tempo_core.values import FloatArray

DEFAULT_CANDIDATES = 64  # segments that the vector search hands to the exact relevance score, over a whole library


@dataclass(frozen=True)
class SelectedSegment:
    """A segment with its video."""

    video: VideoRecord
    record: SegmentRecord

    @property
    def key(self) -> SegmentKey:
        """Its identity in the caches."""
        return SegmentKey(self.video.video_id, self.video.generation, self.record.index)

    @property
    def player_start_s(self) -> float:
        """Its begin as a player shows it."""
        return self.record.start_s + self.video.facts.start_s

    @property
    def player_end_s(self) -> float:
        """Its end as a player shows it."""
        return self.record.end_s + self.video.facts.start_s


@dataclass(frozen=True)
class Scope:
    """What a question is asked over. Times are the player's; ``candidates`` None: the default for the scope."""

    videos: tuple[VideoRecord, ...] | None = None
    from_s: float | None = None
    to_s: float | None = None
    candidates: int | None = None


def select_segments(
    library: Library, videos: Sequence[VideoRecord], scope: Scope, feature: Callable[[], FloatArray]
) -> list[SelectedSegment]:
    """The segments in the order of the prompt: by video, then by time.

    Named videos are read whole. Over the whole library, the ``DEFAULT_CANDIDATES`` nearest by feature are taken if
    there are more segments; ``feature`` is called only then. UsageError where nothing is left.
    """
    limit = scope.candidates
    if limit is None and scope.videos is None:
        limit = DEFAULT_CANDIDATES
    if limit is not None and limit < 1:
        raise UsageError("candidates must be at least 1")
    if limit is not None and sum(video.segments for video in videos) > limit:
        found = _candidates(library, videos, limit, feature())
    else:
        found = [SelectedSegment(video, record) for video in videos for record in library.segments(video)]
    chosen = [segment for segment in found if _within(segment, scope)]
    if not chosen:
        raise UsageError("no segment lies in that range of time; see the videos' durations with `tempo status`")
    return chosen


def _candidates(
    library: Library, videos: Sequence[VideoRecord], limit: int, feature: FloatArray
) -> list[SelectedSegment]:
    by_id = {video.video_id: video for video in videos}
    hits = library.search(feature, videos[0].fingerprints.features, limit, videos=videos)
    wanted: dict[str, set[int]] = {}
    for hit in hits:
        wanted.setdefault(hit.video_id, set()).add(hit.index)
    return [
        SelectedSegment(video, record)
        for video in by_id.values()
        if video.video_id in wanted
        for record in library.segments(video)
        if record.index in wanted[video.video_id]
    ]


def _within(segment: SelectedSegment, scope: Scope) -> bool:
    after = scope.from_s is None or segment.player_end_s > scope.from_s
    before = scope.to_s is None or segment.player_start_s < scope.to_s
    return after and before


def require_videos(videos: Sequence[VideoRecord], model: str) -> None:
    """LibraryError where this model has nothing to answer from."""
    if not videos:
        raise LibraryError(
            f"the library holds no video indexed with the model {model}; "
            f"index it with `tempo index SOURCE --model {model}`, or name the model it was indexed with"
        )
