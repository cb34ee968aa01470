"""Which segments a question is asked over: videos, a range of time, or candidates found over the whole library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from serving.kv_tiers import SegmentKey
from storage import Library, SegmentHit, SegmentRecord, VideoRecord
from tempo_core.errors import LibraryError, UsageError
from tempo_core.sampling import SegmentSpan
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
        """Its start as a player shows it."""
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
    if limit is not None and sum(video.segment_count for video in videos) > limit:
        chosen = _candidates(library, videos, scope, limit, feature())
    else:
        every = _all(library, videos)
        chosen = [segment for segment in every if _within(segment.video, segment.record.span, scope)]
    if not chosen:
        raise UsageError("no segment lies in that range of time; see the videos' durations with `tempo status`")
    return chosen


def left_out(scope: Scope, videos: Sequence[VideoRecord]) -> list[str]:
    """Warnings about videos that the scope names and that are not among ``videos``."""
    asked = {video.video_id for video in videos}
    titles = {video.video_id: video.title for video in scope.videos or () if video.video_id not in asked}
    return [f"{title} was left out: it is indexed with another model or index spec" for title in titles.values()]


def titles(segments: Sequence[SelectedSegment]) -> dict[int, str]:
    """Where several videos are asked about: each one's title by the position of its first segment."""
    first: dict[str, int] = {}
    for position, segment in enumerate(segments):
        first.setdefault(segment.video.video_id, position)
    if len(first) < 2:
        return {}
    return {position: segments[position].video.title for position in first.values()}


def _all(library: Library, videos: Sequence[VideoRecord]) -> list[SelectedSegment]:
    of_each = zip(videos, library.segments_of(videos), strict=True)
    return [SelectedSegment(video, record) for video, records in of_each for record in records]


def _candidates(
    library: Library, videos: Sequence[VideoRecord], scope: Scope, limit: int, feature: FloatArray
) -> list[SelectedSegment]:
    by_id = {video.video_id: video for video in videos}
    hits = {(hit.video_id, hit.index) for hit in nearest(library, by_id, scope, limit, feature)}
    hit_videos = {video_id for video_id, _ in hits}
    segments = _all(library, [video for video in videos if video.video_id in hit_videos])
    return [segment for segment in segments if (segment.video.video_id, segment.record.index) in hits]


def nearest(
    library: Library, by_id: Mapping[str, VideoRecord], scope: Scope, limit: int, feature: FloatArray
) -> list[SegmentHit]:
    """The ``limit`` nearest within the scope's range of time, best first; fewer only where there are no more.

    ``by_id``: the videos, of one features fingerprint. The library's search knows no range of time, so it is asked for
    more until enough lie within. Where the scope names no videos it is not filtered by them: a filter of all videos
    takes eight times as long over 10,000. A video committed since ``by_id`` was made may then be among the hits.
    """
    videos, asked = list(by_id.values()), limit
    named = None if scope.videos is None else videos
    while True:
        hits = library.search(feature, videos[0].fingerprints.features, asked, videos=named)
        within = [hit for hit in hits if hit.video_id in by_id and _within(by_id[hit.video_id], hit, scope)]
        if len(within) >= limit or len(hits) < asked:
            return within[:limit]
        asked *= 4


def _within(video: VideoRecord, span: SegmentHit | SegmentSpan, scope: Scope) -> bool:
    """Whether a span, in seconds from the video's first frame, lies in the scope's range of player's time."""
    start_s = video.facts.start_s
    after = scope.from_s is None or start_s + span.end_s > scope.from_s
    return after and (scope.to_s is None or start_s + span.start_s < scope.to_s)


def require_videos(videos: Sequence[VideoRecord], model: str) -> None:
    """LibraryError where this model has nothing to answer from."""
    if not videos:
        raise LibraryError(
            f"the library holds no video indexed with the model {model}; "
            f"index it with `tempo index SOURCE --model {model}`, or name the model it was indexed with"
        )
