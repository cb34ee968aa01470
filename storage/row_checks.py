"""What a row must be before its values are used: a library may have been made by anybody, or be damaged.

Checked once, where rows become records. So no path leads out of the library, no name of a table or a file is more than
a name, and no number asks for more memory than there are bytes.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import astuple, fields
from functools import lru_cache
from typing import Any, get_args

import pyarrow as pa

from storage.records import ModelRecord
from storage.stores.base import PARTS_FOLDER
from tempo_core.errors import LibraryError, UsageError
from tempo_core.fingerprints import Fingerprints
from tempo_core.spec import PAPER, Decoder, IndexSpec, SamplingRule, StateDtype

Row = Mapping[str, Any]
CHECKSUM, VECTOR = "checksum", "vector"

_VIDEO_ID, _SHA256 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{64}")
_GENERATION, _FINGERPRINT = re.compile(r"[0-9a-f]{20}"), re.compile(r"[0-9a-f]{16}")
_PART_ENDING = re.compile(r"[0-9a-f]{16}-[0-9a-f]{20}\.parquet")
_FORMS = {
    "video_id": _VIDEO_ID,
    "generation": _GENERATION,
    "frames_fingerprint": _FINGERPRINT,
    "states_fingerprint": _FINGERPRINT,
    "features_fingerprint": _FINGERPRINT,
    "frames_sha256": _SHA256,
}
_COUNTS = ("size", "frames_bytes", "states_bytes", "segments", "frames", "width", "height")
_TIMES = ("duration_s", "start_s", "indexed_at")
_LONGEST_SPEC = 1 << 16
_CHOICES = {"state_dtype": get_args(StateDtype), "sampling": get_args(SamplingRule), "decoder": get_args(Decoder)}


def with_checksums(rows: pa.Table) -> pa.Table:
    """With the checksum of each row in its column, as it is to be written, or to be compared with what was."""
    column = rows.schema.get_field_index(CHECKSUM)
    return rows.set_column(column, rows.schema.field(column), pa.array(_row_checksums(rows), pa.int64()))


def _row_checksums(rows: pa.Table) -> list[int]:
    """CRC-32 of all other columns of each row: as JSON, then the bytes of the feature, where there is one."""
    plain = rows.drop_columns([name for name in (CHECKSUM, VECTOR) if name in rows.schema.names])
    checksums = [zlib.crc32(json.dumps(row, sort_keys=True).encode()) for row in plain.to_pylist()]
    if VECTOR not in rows.schema.names or not checksums:
        return checksums
    vectors = rows[VECTOR].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    return list(map(zlib.crc32, vectors, checksums))


def check_video_row(row: Row) -> None:
    """LibraryError that names the column where a row of the catalog is not one that this program writes."""
    for column, form in _FORMS.items():
        if form.fullmatch(row[column]) is None:
            raise damaged(row, column)
    _check_parts(row)
    for column in _COUNTS:
        if row[column] < 0:
            raise damaged(row, column)
    for column in _TIMES:
        if not math.isfinite(row[column]):
            raise damaged(row, column)


def _check_parts(row: Row) -> None:
    """Of states there is a whole part or none."""
    if not _is_part_path("frames", row):
        raise damaged(row, "frames_path")
    if not any(row[f"states_{column}"] for column in ("path", "sha256", "bytes")):
        return
    if not _is_part_path("states", row):
        raise damaged(row, "states_path")
    if _SHA256.fullmatch(row["states_sha256"]) is None:
        raise damaged(row, "states_sha256")


def check_segment_row(row: Row) -> None:
    """LibraryError where a segment's state cannot be what the row says."""
    shape = (row["levels"], row["tokens"], row["row_bytes"])
    is_sound = (
        min(shape) > 0
        and row["state_offset"] >= 0
        and row["state_length"] == math.prod(shape)
        and len(row["grid_thw"]) == 3
    )
    if not is_sound:
        raise LibraryError(
            f"segment {row['index']} of generation {row['generation']}: its row is damaged; `tempo verify` tells what "
            "else is, and indexing the video again makes it anew"
        )


def parsed_spec(row: Row) -> IndexSpec:
    """The index spec of a catalog row; LibraryError where the column holds anything else."""
    try:
        return _spec(row["spec"])
    except (ValueError, TypeError, RecursionError, UsageError) as error:
        raise damaged(row, "spec", str(error)) from error


def parsed_model(listed: Mapping[str, Any]) -> ModelRecord:
    """A model as ``library.json`` lists it; ValueError, KeyError, TypeError or UsageError where it is none."""
    fingerprints, model_id = Fingerprints(**listed["fingerprints"]), listed["model_id"]
    features_model = listed.get("features_model")  # schema 3 had none
    for fingerprint in astuple(fingerprints):
        if _FINGERPRINT.fullmatch(fingerprint) is None:
            raise ValueError(f"{fingerprint!r} is no fingerprint"[:100])
    for name in (model_id, "" if features_model is None else features_model):
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is no model's name"[:100])
    return ModelRecord(fingerprints, model_id, _checked_spec(listed["spec"]), features_model)


def damaged(row: Row, column: str, reason: str = "") -> LibraryError:
    """The error that names the row by its source and what is wrong in it."""
    value = reason or repr(row[column])
    return LibraryError(
        f"the catalog's row of {row['uri']} is damaged or was not written by tempo: {column} is not valid "
        f"({value[:200]}); put the library back from a copy, or index the sources into a new one"
    )


@lru_cache(maxsize=64)
def _spec(text: str) -> IndexSpec:
    if len(text) > _LONGEST_SPEC:
        raise ValueError(f"{len(text)} characters")
    return _checked_spec(json.loads(text))


def _checked_spec(values: object) -> IndexSpec:
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    known = {field.name for field in fields(IndexSpec)}
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"unknown key {unknown[0]!r}")
    for name, value in values.items():
        if not _fits(name, value):
            raise ValueError(f"{name} is {value!r}"[:100])
    return IndexSpec(**values)


def _fits(name: str, value: object) -> bool:
    if name in _CHOICES:
        return value in _CHOICES[name] if isinstance(value, str) else False
    if name == "max_frames" and value is None:
        return True
    if isinstance(value, bool):
        return False
    default = 1 if name == "max_frames" else getattr(PAPER, name)
    return isinstance(value, int | float) if isinstance(default, float) else isinstance(value, type(default))


def _is_part_path(kind: str, row: Row) -> bool:
    video_id, path = row["video_id"], row[f"{kind}_path"]
    beginning = f"{PARTS_FOLDER}/{video_id[:2]}/{video_id}/{kind}-"
    return path.startswith(beginning) and _PART_ENDING.fullmatch(path, len(beginning)) is not None
