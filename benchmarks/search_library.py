"""Large made libraries to ask: a sample written by the product's own writer, the rest in bulk through the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage import Library, SegmentRecord, Source, VideoFacts, VideoRecord, open_library
from storage.generations import new_generation, part_path
from storage.records import StagedContent, StagedVideo
from storage.row_checks import with_checksums
from storage.schemas import CATALOG, CATALOG_SCHEMA, segment_rows, segments_table, video_row
from tempo_core.fingerprints import fingerprints
from tempo_core.sampling import SegmentSpan, sample_frames, segment_spans
from tempo_core.spec import PAPER, FrameGeometry
from tempo_core.values import SegmentState

PRINTS = fingerprints(PAPER, FrameGeometry(), "vision", "text", "suffix")
SEGMENTS, SECONDS = 10, 40
SAMPLE = 10  # videos through the writer
FOLDER_VIDEOS = 1000
LATE_S = 100.0  # what a player adds to the times of every tenth video
_BLOCK = 10_000  # videos added in one commit
_TOPICS = 1000

Vectors = npt.NDArray[np.float32]


def made_library(folder: Path, videos: int, size: int) -> Library:
    """A library of so many videos with features of ``size`` numbers, compacted and indexed; made if it is not there."""
    done, address = folder / f"{videos}x{size}.done", str(folder / f"{videos}x{size}")
    library = open_library(address, create=True)
    if not done.exists():
        samples = _write_samples(library, size)
        for first in range(SAMPLE, videos, _BLOCK):
            _add(library, samples, range(first, min(first + _BLOCK, videos)), size)
        with library.writer() as writer:
            writer.optimize()
        done.touch()
    return library


def questions(count: int, size: int) -> Vectors:
    """Vectors drawn as the segments' are, of videos that are not in the library."""
    return np.concatenate([_vectors(10_000_000 + number, size)[:1] for number in range(count)])


def uri(number: int) -> str:
    """The source of a video."""
    return f"{folder(number)}/video-{number:06}.mp4"


def folder(number: int, is_wide: bool = False) -> str:
    """Of a video, the folder that holds a thousand of them, or ten thousand."""
    wide, narrow = f"/archive/{number // FOLDER_VIDEOS // 10:02}", f"{number // FOLDER_VIDEOS:03}"
    return wide if is_wide else f"{wide}/{narrow}"


def video_id(number: int) -> str:
    """The id of a video."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def _stage_sample(library: Library, number: int, size: int, spans: Sequence[SegmentSpan]) -> StagedContent:
    with library.stage(video_id(number), PRINTS) as video:
        for span in spans:
            pairs = len(span.pair_times_s)
            video.add_frames(span.index, [b"jpeg"] * span.count, [0.0] * span.count)
            rows = np.zeros((1, pairs, 16), np.uint8)
            video.add_state(SegmentState(rows, "bfloat16", (pairs, 2, 2), span.pair_times_s))
        video.add_features(_vectors(number, size), spans)
        return video.finish()


def _write_samples(library: Library, size: int) -> list[tuple[VideoRecord, list[SegmentRecord]]]:
    spans = segment_spans(sample_frames(Fraction(SECONDS), PAPER), PAPER)
    samples = []
    with library.writer() as writer:
        for number in range(SAMPLE):
            staged = _stage_sample(library, number, size, spans)
            facts = VideoFacts(SECONDS, 640, 360, "made", PAPER, _start_s(number))
            (record,) = writer.commit(StagedVideo(staged, Source(uri(number), 1000, "1"), facts))
            samples.append((record, library.segments(record)))
    return samples


def _add(
    library: Library, samples: Sequence[tuple[VideoRecord, list[SegmentRecord]]], numbers: range, size: int
) -> None:
    """Copies of the samples under other ids, with their own features and without parts."""
    own = [_alike(samples[number % SAMPLE][0], number, new_generation()) for number in numbers]
    like = pa.concat_tables(
        [
            segment_rows(segments, np.zeros((SEGMENTS, size), np.float32), video.facts.start_s)
            for video, segments in samples
        ]
    )
    rows = like.take(pa.array([number % SAMPLE * SEGMENTS + i for number in numbers for i in range(SEGMENTS)]))
    vectors = pa.array(np.concatenate([_vectors(number, size) for number in numbers]).reshape(-1))
    columns = {
        "video_id": pa.array([video.video_id for video in own for _ in range(SEGMENTS)]),
        "generation": pa.array([video.generation for video in own for _ in range(SEGMENTS)]),
        "vector": pa.FixedSizeListArray.from_arrays(vectors, size),
    }
    for name, values in columns.items():
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, rows.schema.field(position), values.cast(rows.schema.field(position).type))
    library.tables.add(segments_table(PRINTS.features), with_checksums(rows.combine_chunks()))
    library.tables.add(CATALOG, pa.Table.from_pylist([video_row(video) for video in own], schema=CATALOG_SCHEMA))


def _alike(sample: VideoRecord, number: int, generation: str) -> VideoRecord:
    """The record of another video, of which there are no parts."""
    frames, states = sample.parts
    frames = replace(frames, path=part_path("frames", video_id(number), PRINTS.frames, generation))
    states = replace(states, path=part_path("states", video_id(number), PRINTS.states, generation))
    return replace(
        sample,
        source=Source(uri(number), 1000, "1"),
        video_id=video_id(number),
        generation=generation,
        frames_part=frames,
        states_part=states,
    )


def _vectors(number: int, size: int) -> Vectors:
    """Ten segments about one of a thousand topics: topic, video and segment weigh the same."""
    topic = np.random.default_rng(20_000_000 + number % _TOPICS).standard_normal(size, np.float32)
    rng = np.random.default_rng(number)
    return topic + rng.standard_normal(size, np.float32) + rng.standard_normal((SEGMENTS, size), np.float32)


def _start_s(number: int) -> float:
    return LATE_S if number % SAMPLE == 1 else 0.0
