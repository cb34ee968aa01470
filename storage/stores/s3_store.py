"""A library under an S3 prefix: a part is put under its final name, a conditional put is the lease."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from storage.stores.aws_profile import endpoint, keys, region
from storage.stores.base import LEASE_FILE, STAGED_SUFFIX, TABLES_FOLDER, ByteRange, FileInfo
from storage.stores.lease import Lease
from storage.stores.s3_client import (
    REQUEST_DEADLINE_S,
    ObjectAddress,
    file_system,
    list_objects,
    parse_uri,
    request,
    s3_errors,
    time_left,
    transfer_deadline,
)
from storage.stores.s3_lease import S3Lease
from storage.stores.s3_read import open_object, read_object, read_ranges, read_small
from storage.stores.scratch import drop_scratch, make_scratch
from tempo_core.errors import LibraryError

UPLOAD_BYTES = 16 << 20  # one PUT of a larger part; a part of up to twice that is one PUT
UPLOADS = 4  # at a time, each in memory
_TABLE_DEFAULTS = {"timeout": "60s", "connect_timeout": "5s", "client_max_retries": "6", "client_retry_timeout": "60"}


class S3Store:
    """Store over an S3 prefix, at AWS or any endpoint."""

    exclusive = False  # an expired lease can be taken over while its late holder still writes

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        self.uri = uri.rstrip("/")
        self._base = parse_uri(self.uri)
        tables = ObjectAddress(self._base.bucket, quote(f"{self._base.key}/{TABLES_FOLDER}"))
        self.tables_uri = tables.uri  # LanceDB reads it as a URL: unquoted, # and ? would cut it, and %20 be a space
        self.table_options: Mapping[str, str] = _table_options(options)
        self._files = file_system(options)
        self._scratch: Path | None = None
        self._scratch_lock = threading.Lock()

    def exists(self, path: str) -> bool:
        """One HEAD."""
        return self.modified(path) is not None

    def modified(self, path: str) -> float | None:
        """One HEAD; by the server's clock."""
        address = self._address(path)
        try:
            with s3_errors(address.uri, LibraryError):
                return float(request(self._files, "head_object", address)["LastModified"].timestamp())
        except FileNotFoundError:
            return None

    def read_bytes(self, path: str) -> bytes:
        """One GET."""
        address = self._address(path)
        with s3_errors(address.uri, LibraryError):
            return read_small(self._files, address)[0]

    def write_bytes(self, path: str, data: bytes) -> None:
        """One PUT."""
        address = self._address(path)
        with s3_errors(address.uri, LibraryError):
            request(self._files, "put_object", address, Body=data)

    def staging(self, path: str) -> Path:
        """In a scratch folder of this machine, removed when the store is."""
        with self._scratch_lock:  # two videos that begin together: publish looks where staging said
            if self._scratch is None:
                self._scratch, lock = make_scratch(Path(tempfile.gettempdir()))
                weakref.finalize(self, drop_scratch, self._scratch, lock)
        return self._scratch / (path.rsplit("/", 1)[-1] + STAGED_SUFFIX)

    def publish(self, staged: Path, path: str) -> None:
        """Upload; the object is there only once it is whole."""
        address = self._address(path)
        left = time_left(transfer_deadline(staged.stat().st_size))
        with s3_errors(address.uri, LibraryError):
            self._files.put_file(
                str(staged), address.path, chunksize=UPLOAD_BYTES, max_concurrency=UPLOADS, timeout=left
            )
        staged.unlink()

    def read_ranges(self, path: str, ranges: Sequence[ByteRange]) -> None:
        """Neighbouring ranges as one GET, several GETs at a time."""
        address = self._address(path)
        with s3_errors(address.uri, LibraryError):
            read_ranges(self._files, address, ranges)

    def blocks(self, path: str) -> Iterator[bytes | memoryview]:
        """A few GETs at a time."""
        address = self._address(path)
        with s3_errors(address.uri, LibraryError):
            yield from read_object(self._files, address, self._size(address))

    def open(self, path: str) -> BinaryIO:
        """A GET per read."""
        address = self._address(path)
        with s3_errors(address.uri, LibraryError):
            return open_object(self._files, address, self._size(address))

    def files(self, folder: str) -> Iterator[FileInfo]:
        """List the prefix."""
        base = self._address("").key
        prefix = self._address(f"{folder}/" if folder else "").key
        with s3_errors(self.uri, LibraryError):
            for one in list_objects(self._files, self._base.bucket, prefix):
                if not one["Key"].endswith("/"):  # the mark of a folder that consoles make
                    yield FileInfo(one["Key"].removeprefix(base), one["Size"], one["LastModified"].timestamp())

    def delete(self, path: str) -> None:
        """One DELETE."""
        address = self._address(path)
        with s3_errors(address.uri, LibraryError):
            request(self._files, "delete_object", address)

    def check_tables(self) -> None:
        """There are no links."""

    def discard_uploads(self, oldest: float) -> None:
        """Abort multipart uploads that were begun before ``oldest``: what killed writers left, unseen but paid for."""
        with s3_errors(self.uri, LibraryError):
            for one in [one for one in self._uploads() if one["Initiated"].timestamp() <= oldest]:
                address = ObjectAddress(self._base.bucket, one["Key"])
                request(self._files, "abort_multipart_upload", address, UploadId=one["UploadId"])

    def lease(self) -> Lease:
        """A lease object."""
        return S3Lease(self._files, self._address(LEASE_FILE), self.uri)

    def commit_lock(self) -> AbstractContextManager[None]:
        """Nothing: a commit to S3 is never undone."""
        return nullcontext()

    def free_bytes(self) -> int | None:
        """There is no such limit."""
        return None

    def _address(self, path: str) -> ObjectAddress:
        return ObjectAddress(self._base.bucket, f"{self._base.key}/{path}")

    def _size(self, address: ObjectAddress) -> int:
        return int(request(self._files, "head_object", address)["ContentLength"])

    def _uploads(self) -> Iterator[Any]:
        """All uploads below the prefix that have not ended, page by page."""
        asked = {"Bucket": self._base.bucket, "Prefix": self._address("").key}
        while True:
            page = self._files.call_s3("list_multipart_uploads", timeout=REQUEST_DEADLINE_S, **asked)
            yield from page.get("Uploads", ())
            if not page.get("IsTruncated"):
                return
            asked |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _table_options(options: Mapping[str, str]) -> dict[str, str]:
    own = dict(keys(options))
    if url := endpoint(options):
        own |= {"aws_endpoint": url, "allow_http": str(url.startswith("http://")).lower()}
    if name := region(options):
        own["aws_region"] = name
    return {**_TABLE_DEFAULTS, **own, **options}
