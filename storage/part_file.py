"""Writing part files: Parquet whose bytes depend on nothing but their content, hashed on the way to the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.stores.space import space_errors

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC  # a link there is not what was staged
_ONE_PAGE = 1 << 30  # bytes and rows of a page: above any row group, so that a segment is one page

PLAIN_PARQUET: Mapping[str, Any] = {
    "compression": "NONE",  # states and JPEGs do not shrink
    "use_dictionary": False,
    "data_page_size": _ONE_PAGE,
    "max_rows_per_page": _ONE_PAGE,
    "store_schema": False,
}


class HashingFile:
    """The sink under a Parquet writer: a new file that counts and hashes what passes."""

    def __init__(self, path: Path) -> None:
        self.closed = False
        self.size = 0
        self._hash = hashlib.sha256()
        self._path = path
        with space_errors(str(path)):
            self._file = os.fdopen(os.open(path, _NEW, 0o666), "wb", buffering=0)

    def write(self, data: Any) -> int:
        """All of ``data``; nothing once closed, so that an aborted Parquet writer can end."""
        view = memoryview(data).cast("B")
        if self.closed:
            return len(view)
        self._hash.update(view)
        self.size += len(view)
        with space_errors(str(self._path)):
            while view:
                view = view[self._file.write(view) :]
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Nothing is held back here."""

    def sync(self) -> str:
        """Make the file durable and close it; the SHA-256 of its bytes (hex)."""
        with space_errors(str(self._path)):
            os.fsync(self._file.fileno())
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self.closed = True


class PartWriter:
    """One Parquet part with one row group per segment, in constant memory."""

    def __init__(self, path: Path, schema: pa.Schema, statistics: list[str]) -> None:
        self.path = path
        self._schema = schema
        self._sink = HashingFile(path)
        self._writer = pq.ParquetWriter(self._sink, schema, write_statistics=statistics or False, **PLAIN_PARQUET)

    def add(self, columns: list[pa.Array]) -> None:
        """One row group."""
        table = pa.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def finish(self, metadata: Mapping[str, str]) -> tuple[str, int]:
        """Write the footer and sync. (SHA-256 hex, bytes)."""
        self._writer.add_key_value_metadata(dict(metadata))
        self._writer.close()
        return self._sink.sync(), self._sink.size

    def abort(self) -> None:
        """Close and remove what was written."""
        self._sink.close()
        self._writer.close()
        self.path.unlink(missing_ok=True)
