"""The tables of a library and how their rows become values. What is read back is what was put in, exactly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from sys import intern
from typing import Any

import pyarrow as pa

from storage.records import (
    FailureRecord,
    FeatureArray,
    Part,
    SegmentRecord,
    Source,
    StateSlice,
    VideoFacts,
    VideoRecord,
)
from storage.row_checks import CHECKSUM, VECTOR, Row, check_segment_row, check_video_row, parsed_spec, with_checksums
from tempo_core.fingerprints import Fingerprints
from tempo_core.sampling import SegmentSpan

CATALOG = "videos"
FAILURES = "failures"
RETIRED = "retired"
SEGMENTS_PREFIX = "segments_"
KEY = "key"
_NO_PART = Part("", "", 0)  # in the columns of a video whose states are not kept


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


_SOURCE = {"uri": pa.string(), "size": pa.int64(), "modified": pa.string()}
_PARTS = {
    f"{kind}_{name}": form
    for kind in ("frames", "states")
    for name, form in (("path", pa.string()), ("sha256", pa.string()), ("bytes", pa.int64()))
}

CATALOG_SCHEMA = _schema(
    key=pa.string(),
    **_SOURCE,
    video_id=pa.string(),
    generation=pa.string(),
    frames_fingerprint=pa.string(),
    states_fingerprint=pa.string(),
    features_fingerprint=pa.string(),
    **_PARTS,
    segments=pa.int32(),
    frames=pa.int32(),
    duration_s=pa.float64(),
    start_s=pa.float64(),
    width=pa.int32(),
    height=pa.int32(),
    warnings=pa.list_(pa.string()),
    model_id=pa.string(),
    state_dtype=pa.string(),
    spec=pa.string(),
    indexed_at=pa.float64(),
    checksum=pa.int64(),
)
FAILURES_SCHEMA = _schema(
    key=pa.string(),
    **_SOURCE,
    fingerprint=pa.string(),
    reason=pa.string(),
    step=pa.string(),
    attempts=pa.int32(),
    failed_at=pa.float64(),
)
RETIRED_SCHEMA = _schema(key=pa.string(), retired_at=pa.float64())
KEYED = {CATALOG: CATALOG_SCHEMA, FAILURES: FAILURES_SCHEMA, RETIRED: RETIRED_SCHEMA}
_KEY_MARK = b"lance-schema:unenforced-primary-key"


def declares_key(schema: pa.Schema) -> bool:
    """Whether a table declares ``key`` as its key."""
    return any(name.startswith(_KEY_MARK) for name in schema.field(KEY).metadata or {})


def segments_schema(size: int) -> pa.Schema:
    """Segment rows with features of ``size`` float32 numbers (float32: an index builds five times faster on it).

    ``video_start_s`` is the catalog's ``start_s``, here so that a search can be filtered by the player's time.
    """
    return _schema(
        video_id=pa.string(),
        generation=pa.string(),
        index=pa.int32(),
        first=pa.int32(),
        count=pa.int32(),
        start_s=pa.float64(),
        end_s=pa.float64(),
        tag_time_s=pa.float64(),
        pair_times_s=pa.list_(pa.float64()),
        state_offset=pa.int64(),
        state_length=pa.int64(),
        state_checksum=pa.int64(),
        levels=pa.int32(),
        tokens=pa.int32(),
        row_bytes=pa.int32(),
        grid_thw=pa.list_(pa.int32()),
        vector=pa.list_(pa.field("item", pa.float32()), size),
        video_start_s=pa.float64(),
        checksum=pa.int64(),
    )


SEGMENT_COLUMNS = [name for name in segments_schema(1).names if name not in {VECTOR, "video_start_s", CHECKSUM}]


_SPAN_COLUMNS = [field.name for field in fields(SegmentSpan) if field.name != "pair_times_s"]


def source_key(uri: str, fingerprint: str) -> str:
    """The declared key of a source under a model: 32 hex digits over both."""
    return hashlib.sha256(f"{fingerprint} {uri}".encode()).hexdigest()[:32]


def segments_table(fingerprint: str) -> str:
    """The table of one features fingerprint."""
    return SEGMENTS_PREFIX + fingerprint


def video_row(record: VideoRecord) -> dict[str, Any]:
    """The catalog row of a record."""
    values = pa.Table.from_pylist([_video_values(record)], schema=CATALOG_SCHEMA)  # as they will be read back
    (row,) = with_checksums(values).to_pylist()
    return dict(row)


def _video_values(record: VideoRecord) -> dict[str, Any]:
    fingerprints, facts = record.fingerprints, record.facts
    return {
        "key": source_key(record.uri, fingerprints.features),
        **_source_row(record.source),
        "video_id": record.video_id,
        "generation": record.generation,
        "frames_fingerprint": fingerprints.frames,
        "states_fingerprint": fingerprints.states,
        "features_fingerprint": fingerprints.features,
        **_part_row("frames", record.frames_part),
        **_part_row("states", record.states_part or _NO_PART),
        "segments": record.segment_count,
        "frames": record.frame_count,
        "duration_s": facts.duration_s,
        "start_s": facts.start_s,
        "width": facts.width,
        "height": facts.height,
        "warnings": list(facts.warnings),
        "model_id": facts.model_id,
        "state_dtype": facts.spec.state_dtype,
        "spec": json.dumps(asdict(facts.spec), sort_keys=True),
        "indexed_at": record.indexed_at,
    }


def video_record(row: Row) -> VideoRecord:
    """The record of a catalog row; LibraryError where it is not one that this program writes."""
    check_video_row(row)
    return VideoRecord(
        source=_source(row),
        video_id=row["video_id"],
        generation=row["generation"],
        fingerprints=_chain(row["frames_fingerprint"], row["states_fingerprint"], row["features_fingerprint"]),
        facts=_facts(row),
        frames_part=_part("frames", row),
        states_part=_part("states", row) if row["states_path"] else None,
        segment_count=row["segments"],
        frame_count=row["frames"],
        indexed_at=row["indexed_at"],
    )


def segment_rows(segments: Sequence[SegmentRecord], vectors: FeatureArray, start_s: float) -> pa.Table:
    """Rows of one generation; ``vectors``: float32 [segments, features]; ``start_s``: the video's."""
    schema = segments_schema(vectors.shape[1])
    position = schema.get_field_index(VECTOR)
    rows = [{**_segment_row(segment), "video_start_s": start_s} for segment in segments]
    columns = pa.Table.from_pylist(rows, schema=schema.remove(position))
    vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    vector = vector.cast(schema.field(position).type)
    return with_checksums(columns.add_column(position, schema.field(position), vector))


def segment_record(row: Row) -> SegmentRecord:
    """The record of a segment row; LibraryError where it is damaged."""
    check_segment_row(row)
    span = SegmentSpan(**{name: row[name] for name in _SPAN_COLUMNS}, pair_times_s=tuple(row["pair_times_s"]))
    t, h, w = row["grid_thw"]
    state = StateSlice(
        offset=row["state_offset"],
        length=row["state_length"],
        checksum=row["state_checksum"],
        levels=row["levels"],
        tokens=row["tokens"],
        row_bytes=row["row_bytes"],
        grid_thw=(t, h, w),
    )
    return SegmentRecord(row["video_id"], row["generation"], span, state)


def failure_row(record: FailureRecord) -> dict[str, Any]:
    """The row of a failure."""
    return {
        "key": source_key(record.source.uri, record.fingerprint),
        **_source_row(record.source),
        "fingerprint": record.fingerprint,
        "reason": record.reason,
        "step": record.step,
        "attempts": record.attempts,
        "failed_at": record.failed_at,
    }


def failure_record(row: Row) -> FailureRecord:
    """The record of a failure row."""
    return FailureRecord(
        _source(row), row["fingerprint"], row["reason"], row["step"], row["attempts"], row["failed_at"]
    )


def _segment_row(segment: SegmentRecord) -> dict[str, Any]:
    span, state = segment.span, segment.state
    return {
        **asdict(span),
        "video_id": segment.video_id,
        "generation": segment.generation,
        "pair_times_s": list(span.pair_times_s),
        "state_offset": state.offset,
        "state_length": state.length,
        "state_checksum": state.checksum,
        "levels": state.levels,
        "tokens": state.tokens,
        "row_bytes": state.row_bytes,
        "grid_thw": list(state.grid_thw),
    }


def _source_row(source: Source) -> dict[str, Any]:
    return {"uri": source.uri, "size": source.size, "modified": source.modified}


def _source(row: Row) -> Source:
    return Source(row["uri"], row["size"], row["modified"])


def _part_row(kind: str, part: Part) -> dict[str, Any]:
    return {f"{kind}_path": part.path, f"{kind}_sha256": part.sha256, f"{kind}_bytes": part.size}


def _part(kind: str, row: Row) -> Part:
    return Part(row[f"{kind}_path"], row[f"{kind}_sha256"], row[f"{kind}_bytes"])


def _facts(row: Row) -> VideoFacts:
    return VideoFacts(
        duration_s=row["duration_s"],
        start_s=row["start_s"],
        width=row["width"],
        height=row["height"],
        warnings=tuple(row["warnings"]),
        model_id=intern(row["model_id"]),
        spec=parsed_spec(row),
    )


@lru_cache(maxsize=64)
def _chain(frames: str, states: str, features: str) -> Fingerprints:
    return Fingerprints(frames, states, features)
