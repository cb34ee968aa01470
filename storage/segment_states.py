"""From a catalog record to segment states in memory: one range read per segment, no copy, no decoding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from storage.filters import one_of
from storage.records import SegmentRecord, VideoRecord
from storage.schemas import SEGMENT_COLUMNS, segment_record, segments_table
from storage.state_part import checksum
from storage.stores.base import ByteRange, Store
from storage.tables import Tables
from tempo_core.errors import CorruptPart, LibraryError, UsageError
from tempo_core.host import cpu_count
from tempo_core.values import ByteArray, SegmentState


def segment_records(tables: Tables, video: VideoRecord) -> list[SegmentRecord]:
    """The segments of the record's generation, in order; LibraryError if they are not all there."""
    return segment_records_of(tables, [video])[0]


def segment_records_of(tables: Tables, videos: Sequence[VideoRecord]) -> list[list[SegmentRecord]]:
    """The segments of each of ``videos``, in order. One query a model: 200 queries take 1.5 s on a local disk."""
    generations: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        generations[segments_table(video.fingerprints.features)].add(video.generation)
    segments: dict[str, list[SegmentRecord]] = defaultdict(list)
    for table, names in generations.items():
        for row in tables.rows(table, one_of("generation", sorted(names)), SEGMENT_COLUMNS):
            segments[row["generation"]].append(segment_record(row))
    return [complete_segments(video, segments[video.generation]) for video in videos]


def complete_segments(video: VideoRecord, unordered: Sequence[SegmentRecord]) -> list[SegmentRecord]:
    """In order; LibraryError if they are not all there."""
    segments = sorted(unordered, key=lambda segment: segment.index)
    if [segment.index for segment in segments] != list(range(video.segment_count)):
        raise LibraryError(
            f"{video.uri}: {len(segments)} of {video.segment_count} segments found; "
            "the library changed meanwhile (ask again) or is damaged (`tempo verify`)"
        )
    return segments


def segments_at(segments: Sequence[SegmentRecord], indices: Sequence[int] | None) -> list[SegmentRecord]:
    """Those of ``indices``, in that order; all for None. UsageError for an index there is not."""
    if indices is None:
        return list(segments)
    missing = [index for index in indices if not 0 <= index < len(segments)]
    if missing:
        raise UsageError(f"no segment {missing[0]}: the video has {len(segments)}")
    return [segments[index] for index in indices]


def read_states(
    store: Store, video: VideoRecord, segments: Sequence[SegmentRecord], verify: bool
) -> list[SegmentState]:
    """The states of ``segments`` of one video, packed one behind the other in one buffer; rows are views of it."""
    buffer = np.empty(sum(segment.state.length for segment in segments), np.uint8)
    pieces, start = [], 0
    for segment in segments:
        pieces.append(buffer[start : start + segment.state.length])
        start += segment.state.length
    _fill(store, video, segments, pieces)
    if verify:
        _verify(video, segments, pieces)
    return [_state(video, segment, piece) for segment, piece in zip(segments, pieces, strict=True)]


def _path(video: VideoRecord) -> str:
    if video.states_part is None:
        raise LibraryError(f"{video.uri}: its states are not kept, only its frames")
    return video.states_part.path


def _fill(store: Store, video: VideoRecord, segments: Sequence[SegmentRecord], pieces: Sequence[ByteArray]) -> None:
    path = _path(video)
    ranges = [ByteRange(segment.state.offset, piece.data) for segment, piece in zip(segments, pieces, strict=True)]
    try:
        store.read_ranges(path, ranges)
    except FileNotFoundError:
        raise CorruptPart(f"{store.uri}/{path} is missing; `tempo verify` tells what else is") from None
    except EOFError as error:
        raise CorruptPart(f"{store.uri}/{path} is cut short: {error}; remove the video and index it again") from error


def _verify(video: VideoRecord, segments: Sequence[SegmentRecord], pieces: Sequence[ByteArray]) -> None:
    with ThreadPoolExecutor(cpu_count()) as threads:
        checksums = list(threads.map(checksum, (piece.data for piece in pieces)))
    for segment, crc32 in zip(segments, checksums, strict=True):
        if crc32 != segment.state.checksum:
            raise CorruptPart(
                f"{_path(video)}: segment {segment.index} does not match its checksum; "
                "remove the video and index it again"
            )


def _state(video: VideoRecord, segment: SegmentRecord, piece: ByteArray) -> SegmentState:
    state = segment.state
    rows = piece.reshape(state.levels, state.tokens, state.row_bytes)
    return SegmentState(rows, video.facts.spec.state_dtype, state.grid_thw, segment.span.pair_times_s)
