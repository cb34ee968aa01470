"""The part that holds a video's segment states: one row per (level, token), one page per segment.

Row group = segment, one uncompressed page without dictionary, so a segment's rows lie in one run of bytes. Its offset
and length are taken from the footer after writing, checked by reading them back, and kept with the segment's row: a
reader then needs one range read per segment and no Parquet library. To all others it is an ordinary Parquet file.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from storage.part_file import PartWriter
from storage.records import StateSlice
from tempo_core.errors import CorruptPart
from tempo_core.values import SegmentState

STATE_COLUMN = "state"
STATE_METADATA = "tempo.states"


@dataclass(frozen=True)
class _Added:
    """A segment that was written; only the footer, at the end, tells where it lies."""

    shape: tuple[int, int, int]
    grid_thw: tuple[int, int, int]
    pair_times_s: tuple[float, ...]
    checksum: int


class StatesPartWriter:
    """Takes the states of a video in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part: PartWriter | None = None
        self._dtype = ""
        self._added: list[_Added] = []

    def add(self, state: SegmentState) -> None:
        """Append the next segment; ValueError if dtype or row size differ from the first's."""
        levels, tokens, row_bytes = state.rows.shape
        self._check(state)
        rows = state.rows if state.rows.flags.c_contiguous else state.rows.copy()
        if self._part is None:
            self._dtype = state.dtype
            schema = pa.schema([pa.field(STATE_COLUMN, pa.binary(row_bytes), nullable=False)])
            self._part = PartWriter(self._path, schema, statistics=[])
        column = pa.Array.from_buffers(pa.binary(row_bytes), levels * tokens, [None, pa.py_buffer(rows)])
        self._part.add([column])
        self._added.append(
            _Added((levels, tokens, row_bytes), state.grid_thw, state.pair_times_s, checksum(rows.reshape(-1).data))
        )

    def finish(self) -> tuple[str, int, list[StateSlice]]:
        """(SHA-256 hex, bytes, where each segment lies); CorruptPart if the file does not read back as written."""
        if self._part is None:
            raise ValueError("a states part needs at least one segment")
        sha256, size = self._part.finish({STATE_METADATA: json.dumps(self._describe(), sort_keys=True)})
        slices = self._slices()
        _read_back(self._path, slices)
        return sha256, size, slices

    def abort(self) -> None:
        """Remove what was written."""
        if self._part is not None:
            self._part.abort()
        self._path.unlink(missing_ok=True)

    def _check(self, state: SegmentState) -> None:
        if self._added and (state.dtype, state.rows.shape[2]) != (self._dtype, self._added[0].shape[2]):
            raise ValueError(f"segment {len(self._added)}: {state.dtype} {state.rows.shape} in a part of {self._dtype}")

    def _describe(self) -> dict[str, object]:
        segments = [
            {
                "levels": added.shape[0],
                "tokens": added.shape[1],
                "grid_thw": added.grid_thw,
                "pair_times_s": added.pair_times_s,
            }
            for added in self._added
        ]
        return {"dtype": self._dtype, "row_bytes": self._added[0].shape[2], "segments": segments}

    def _slices(self) -> list[StateSlice]:
        footer = pq.read_metadata(self._path)
        slices = []
        for position, added in enumerate(self._added):
            levels, tokens, row_bytes = added.shape
            column, length = footer.row_group(position).column(0), levels * tokens * row_bytes
            offset = column.data_page_offset + column.total_compressed_size - length  # behind the page's header
            slices.append(StateSlice(offset, length, added.checksum, levels, tokens, row_bytes, added.grid_thw))
        return slices


def checksum(data: memoryview | bytes) -> int:
    """CRC-32, which is twice as fast as SHA-256; the SHA-256 of the whole part is in the catalog."""
    return zlib.crc32(data)


def _read_back(path: Path, slices: list[StateSlice]) -> None:
    """CorruptPart unless each slice holds its segment; from the page cache this takes a second for 3 GB."""
    with path.open("rb", buffering=0) as file:
        for position, state in enumerate(slices):
            if checksum(os.pread(file.fileno(), state.length, state.offset)) != state.checksum:
                raise CorruptPart(
                    f"{path}: segment {position} does not read back as it was written; is the disk sound?"
                )
