"""The part that holds a video's sampled frames as JPEG: row group = segment, so a poster costs one small read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from storage.part_file import PartWriter
from tempo_core.errors import UsageError

FRAMES_SCHEMA = pa.schema(
    [
        pa.field("segment", pa.int32(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("jpeg", pa.binary(), nullable=False),
    ]
)


class FramesPartWriter:
    """Takes the frames of a video, segment by segment in order."""

    def __init__(self, path: Path) -> None:
        self._part = PartWriter(path, FRAMES_SCHEMA, statistics=["segment", "frame", "time_s"])
        self.segment_count = 0
        self.frame_count = 0

    def add(self, index: int, jpegs: Sequence[bytes], times_s: Sequence[float]) -> None:
        """Append segment ``index``; ``frame`` counts on over the whole video."""
        if index != self.segment_count or len(jpegs) != len(times_s) or not jpegs:
            raise ValueError(
                f"segment {index} with {len(jpegs)} frames and {len(times_s)} times, not {self.segment_count}"
            )
        numbers = range(self.frame_count, self.frame_count + len(jpegs))
        columns = [[index] * len(jpegs), list(numbers), list(times_s), list(jpegs)]
        self._part.add([pa.array(values, field.type) for values, field in zip(columns, FRAMES_SCHEMA, strict=True)])
        self.segment_count += 1
        self.frame_count += len(jpegs)

    def finish(self) -> tuple[str, int]:
        """(SHA-256 hex, bytes)."""
        return self._part.finish({"tempo.frames": str(self.frame_count)})

    def abort(self) -> None:
        """Remove what was written."""
        self._part.abort()


def read_frames(file: BinaryIO, indices: Sequence[int] | None) -> Iterator[tuple[int, list[bytes], list[float]]]:
    """(segment index, JPEGs, presentation times) of the segments ``indices``, all for None, one row group at a time."""
    part = pq.ParquetFile(file, pre_buffer=True)
    for index in range(part.num_row_groups) if indices is None else indices:
        if not 0 <= index < part.num_row_groups:
            raise UsageError(f"no segment {index}: the video has {part.num_row_groups}")
        rows = part.read_row_group(index, columns=["time_s", "jpeg"])
        yield index, rows["jpeg"].to_pylist(), rows["time_s"].to_pylist()
