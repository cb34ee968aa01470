"""Which segments a question is asked over: videos, a range of time, or candidates found over the whole library.

All segments of one video named, or of several with up to 1,024 in all; else the 64 nearest by feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from serving.kv_tiers import SegmentKey
from storage import Library, ModelRecord, SegmentRecord, TimeRange, VideoRecord, one_per_content
from tempo_core.checkpoint_parts import Checkpoint
from tempo_core.errors import LibraryError, UsageError
from tempo_core.values import FloatArray

DEFAULT_CANDIDATES = 64  # segments that the vector search hands to the exact relevance score, over a whole library
MOST_READ_WHOLE = 1024  # segments of several videos: with more, each has less than 4 of the default 4,096 memory tokens


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
    """What a question is asked over. Times are the player's; ``candidates`` None: the default for the scope.

    ``folder``: only sources below this folder or S3 prefix, where no videos are named.
    """

    videos: tuple[VideoRecord, ...] | None = None
    folder: str | None = None
    from_s: float | None = None
    to_s: float | None = None
    candidates: int | None = None

    @property
    def times(self) -> TimeRange:
        return TimeRange(self.from_s, self.to_s)


@dataclass(frozen=True)
class AskedVideos:
    """The videos of a scope that one model has indexed under one index spec.

    ``features``: its fingerprint. ``named``: one record of each content, None for all that are committed under it
    (below ``folder``, if that is given).
    """

    features: str
    named: tuple[VideoRecord, ...] | None = None
    folder: str | None = None

    def candidates(self, scope: Scope) -> int | None:
        """To how many candidates the question is limited; None: all segments are read.

        Where the scope does not say, one named video is read whole, several are if they have no more than
        ``MOST_READ_WHOLE`` segments, and everything else is searched for ``DEFAULT_CANDIDATES``.
        """
        if scope.candidates is not None:
            return scope.candidates
        if self.named is not None and (len(self.named) == 1 or self._named_segments <= MOST_READ_WHOLE):
            return None
        return DEFAULT_CANDIDATES

    def left_out(self, scope: Scope) -> list[str]:
        """Warnings about what the scope names and is not asked: other models' videos, segments that are no candidates.

        Of a whole library or a folder nobody expects every segment to be read, nor where candidates were asked for.
        """
        asked = {video.video_id for video in self.named or ()}
        titles = {video.video_id: video.title for video in scope.videos or () if video.video_id not in asked}
        others = [f"{title} was left out: it is indexed with another model or index spec" for title in titles.values()]
        limit = self.candidates(scope)
        if self.named is None or scope.candidates is not None or limit is None:
            return others
        passed_over = (
            f"the {len(self.named):,} videos named have {self._named_segments:,} segments, too many to read all: only "
            f"the {limit} nearest to the question were considered; up to {MOST_READ_WHOLE:,} are read whole"
        )
        return [passed_over, *others]

    def segment_count(self, library: Library) -> int:
        """At most so many segments belong to these videos."""
        return library.segment_count(self.features) if self.named is None else self._named_segments

    @cached_property
    def _named_segments(self) -> int:
        return sum(video.segment_count for video in self.named or ())


def asked_videos(library: Library, checkpoint: Checkpoint, scope: Scope) -> AskedVideos:
    """What of the scope this model has indexed, under the library's default index spec if it can be.

    LibraryError where that is nothing, or (``require_videos``) where nothing is found. No row of the catalog is read.
    """
    own = [model.features for model in library.models() if _is_own(model, checkpoint)]
    if scope.videos is not None:
        held = {video.fingerprints.features for video in scope.videos}
        features = next((features for features in own if features in held), None)
        videos = [video for video in scope.videos if video.fingerprints.features == features]
        named = tuple(one_per_content(videos))
    else:
        several = len(own) > 1  # of one it is asked only where nothing is found
        features, named = next(filter(library.has_videos, own) if several else iter(own), None), None
    if features is None:
        raise _no_videos(checkpoint)
    return AskedVideos(features, named, scope.folder)


def require_videos(library: Library, videos: AskedVideos, checkpoint: Checkpoint) -> None:
    """LibraryError where all videos of the model have been removed, UsageError where none lies below the folder."""
    if videos.named is not None or library.has_videos(videos.features, videos.folder):
        return
    if library.has_videos(videos.features):
        raise UsageError(f"no video of {library.uri} lies below {videos.folder}; `tempo status --json` lists them")
    raise _no_videos(checkpoint)


def select_segments(
    library: Library, checkpoint: Checkpoint, videos: AskedVideos, scope: Scope, feature: Callable[[], FloatArray]
) -> list[SelectedSegment]:
    """The segments in the order of the prompt: by video, then by time.

    All of them, or (``AskedVideos.candidates``) the nearest by feature if there are more; ``feature`` is called only
    then. UsageError where nothing is left.
    """
    limit = videos.candidates(scope)
    if limit is not None and limit < 1:
        raise UsageError("candidates must be at least 1")
    if limit is not None and videos.segment_count(library) > limit:
        chosen = _candidates(library, videos, scope, limit, feature())
    else:
        every = _all(library, videos)
        chosen = [segment for segment in every if scope.times.meets(segment.video, segment.record.span)]
    if not chosen:
        require_videos(library, videos, checkpoint)
        raise UsageError("no segment lies in that range of time; see the videos' durations with `tempo status`")
    return chosen


def titles(segments: Sequence[SelectedSegment]) -> dict[int, str]:
    """Where several videos are asked about: each one's title by the position of its first segment."""
    first: dict[str, int] = {}
    for position, segment in enumerate(segments):
        first.setdefault(segment.video.video_id, position)
    if len(first) < 2:
        return {}
    return {position: segments[position].video.title for position in first.values()}


def _no_videos(checkpoint: Checkpoint) -> LibraryError:
    model, options = checkpoint.id, f"--model {checkpoint.id}"
    if checkpoint.features is not None:
        model, options = (
            f"{model} and features by {checkpoint.features.id}",
            f"{options} --features {checkpoint.features.id}",
        )
    return LibraryError(
        f"the library holds no video indexed with the model {model}; index it with "
        f"`tempo index SOURCE {options}`, or name the model it was indexed with"
    )


def _is_own(model: ModelRecord, checkpoint: Checkpoint) -> bool:
    return checkpoint.fingerprints(model.spec) == model.fingerprints


def _all(library: Library, videos: AskedVideos) -> list[SelectedSegment]:
    records = (
        one_per_content(library.videos(videos.features, folder=videos.folder)) if videos.named is None else videos.named
    )
    of_each = zip(records, library.segments_of(records), strict=True)
    return [SelectedSegment(video, record) for video, segments in of_each for record in segments]


def _candidates(
    library: Library, videos: AskedVideos, scope: Scope, limit: int, feature: FloatArray
) -> list[SelectedSegment]:
    """The nearest segments. Videos come in the order named, else by URI."""
    hits = library.search(feature, videos.features, limit, videos.named, scope.times, videos.folder)
    position = {video.video_id: position for position, video in enumerate(videos.named or ())}
    segments = [SelectedSegment(hit.video, hit.segment) for hit in hits]
    return sorted(segments, key=lambda one: (position.get(one.video.video_id, 0), one.video.uri, one.record.index))
