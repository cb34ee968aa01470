"""The frames that a library keeps of a segment, all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from storage import Library, SegmentRecord, VideoRecord
from tempo_core.errors import CorruptPart


def kept_frames(
    library: Library, video: VideoRecord, segments: Sequence[SegmentRecord]
) -> Iterator[tuple[list[bytes], list[float]]]:
    """Of each segment its frames as JPEG files and their times in seconds. CorruptPart where some are missing."""
    kept = library.read_frames(video, [segment.index for segment in segments])
    for segment, (index, jpegs, times_s) in zip(segments, kept, strict=True):
        if len(jpegs) != segment.span.count:
            raise CorruptPart(f"{video.title}: segment {index} lacks frames; remove the video and index it again")
        yield jpegs, times_s
