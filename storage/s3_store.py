"""A library under an S3 prefix: a part is put under its final name, a conditional put is the lease."""

from __future__ import annotations

import io
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

from boto3.s3.transfer import S3UploadFailedError, TransferConfig

from storage.s3_client import ObjectPlace, endpoint, parse_uri, read_object, s3_client, s3_errors
from storage.s3_lease import S3Lease
from storage.scratch import drop_scratch, make_scratch
from storage.store import LEASE_FILE, STAGED_SUFFIX, TABLES_FOLDER, ByteRange, FileInfo, Lease
from tempo_core.errors import LibraryError

READ_THREADS = 8
RUN_BYTES = 32 << 20  # one GET: large enough that its latency is small, small enough to share among the threads
RUN_GAP = 64 << 10  # bytes between two ranges that are read along rather than asked around
_UPLOAD = TransferConfig(multipart_threshold=64 << 20, multipart_chunksize=64 << 20, max_concurrency=4)
_TABLE_DEFAULTS = {"timeout": "60s", "connect_timeout": "5s", "client_max_retries": "6", "client_retry_timeout": "60"}


class S3Store:
    """Store over an S3 prefix, at AWS or any endpoint."""

    exclusive = False  # an expired lease can be taken over while its late holder still writes

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        self.uri = uri.rstrip("/")
        self.tables_uri = f"{self.uri}/{TABLES_FOLDER}"
        self.table_options: Mapping[str, str] = _table_options(options)
        self._base = parse_uri(self.uri)
        self._options = options
        self._client = s3_client(options)
        self._scratch: Path | None = None

    def exists(self, path: str) -> bool:
        """One HEAD."""
        place = self._place(path)
        try:
            with s3_errors(place.uri, LibraryError):
                self._client.head_object(Bucket=place.bucket, Key=place.key)
        except FileNotFoundError:
            return False
        return True

    def read_bytes(self, path: str) -> bytes:
        """One GET."""
        place = self._place(path)
        with s3_errors(place.uri, LibraryError):
            return cast(bytes, self._client.get_object(Bucket=place.bucket, Key=place.key)["Body"].read())

    def write_bytes(self, path: str, data: bytes) -> None:
        """One PUT."""
        place = self._place(path)
        with s3_errors(place.uri, LibraryError):
            self._client.put_object(Bucket=place.bucket, Key=place.key, Body=data)

    def staging(self, path: str) -> Path:
        """In a scratch folder of this machine, removed when the store is."""
        if self._scratch is None:
            self._scratch, lock = make_scratch(Path(tempfile.gettempdir()))
            weakref.finalize(self, drop_scratch, self._scratch, lock)
        return self._scratch / (path.rsplit("/", 1)[-1] + STAGED_SUFFIX)

    def publish(self, staged: Path, path: str) -> None:
        """Upload; the object is there only once it is whole."""
        place = self._place(path)
        try:
            with s3_errors(place.uri, LibraryError):
                self._client.upload_file(str(staged), place.bucket, place.key, Config=_UPLOAD)
        except S3UploadFailedError as error:
            raise LibraryError(f"{place.uri}: {error}") from error
        staged.unlink()

    def read_ranges(self, path: str, ranges: Sequence[ByteRange]) -> None:
        """Neighbouring ranges as one GET, several GETs at a time."""
        place = self._place(path)
        with s3_errors(place.uri, LibraryError), ThreadPoolExecutor(READ_THREADS) as threads:
            for done in [threads.submit(self._read_run, place, run) for run in _runs(ranges)]:
                done.result()

    def blocks(self, path: str) -> Iterator[bytes]:
        """One GET, as it comes."""
        place = self._place(path)
        with s3_errors(place.uri, LibraryError):
            yield from read_object(self._options, place, 0, self._size(place))

    def open(self, path: str) -> BinaryIO:
        """A GET per read: pyarrow gathers its own."""
        place = self._place(path)
        with s3_errors(place.uri, LibraryError):
            return cast(BinaryIO, _ObjectFile(self._options, place, self._size(place)))

    def files(self, folder: str) -> Iterator[FileInfo]:
        """List the prefix."""
        base = self._place("").key
        with s3_errors(self.uri, LibraryError):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(
                Bucket=self._base.bucket, Prefix=self._place(folder + "/" if folder else "").key
            ):
                for one in page.get("Contents", ()):
                    yield FileInfo(one["Key"].removeprefix(base), one["Size"], one["LastModified"].timestamp())

    def delete(self, path: str) -> None:
        """One DELETE."""
        place = self._place(path)
        with s3_errors(place.uri, LibraryError):
            self._client.delete_object(Bucket=place.bucket, Key=place.key)

    def discard_uploads(self, oldest: float) -> None:
        """Abort multipart uploads that were begun before ``oldest``: what killed writers left, unseen but paid for."""
        with s3_errors(self.uri, LibraryError):
            pages = self._client.get_paginator("list_multipart_uploads")
            found = pages.paginate(Bucket=self._base.bucket, Prefix=self._place("").key)
            uploads = (one for page in found for one in page.get("Uploads", ()))
            for one in (one for one in uploads if one["Initiated"].timestamp() <= oldest):
                self._client.abort_multipart_upload(Bucket=self._base.bucket, Key=one["Key"], UploadId=one["UploadId"])

    def lease(self) -> Lease:
        """A lease object."""
        return S3Lease(self._client, self._place(LEASE_FILE), self.uri)

    def free_bytes(self) -> int | None:
        """There is no such limit."""
        return None

    def _place(self, path: str) -> ObjectPlace:
        prefix = f"{self._base.key}/" if self._base.key else ""
        return ObjectPlace(self._base.bucket, prefix + path)

    def _size(self, place: ObjectPlace) -> int:
        return int(self._client.head_object(Bucket=place.bucket, Key=place.key)["ContentLength"])

    def _read_run(self, place: ObjectPlace, run: Sequence[ByteRange]) -> None:
        """One GET over neighbouring ranges; what lies between them is dropped."""
        position, end = run[0].offset, run[-1].offset + len(run[-1].target)
        waiting = list(run)
        for chunk in read_object(self._options, place, position, end):
            waiting = _scatter(memoryview(chunk), position, waiting)
            position += len(chunk)


class _ObjectFile(io.RawIOBase):
    """A seekable reader of one object."""

    def __init__(self, options: Mapping[str, str], place: ObjectPlace, size: int) -> None:
        self._options, self._object, self._size, self._position = options, place, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        end = min(self._size, self._position + len(target))
        filled = 0
        with s3_errors(self._object.uri, LibraryError):
            for chunk in read_object(self._options, self._object, self._position, end):
                target[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
        self._position += filled
        return filled


def _runs(ranges: Sequence[ByteRange]) -> list[list[ByteRange]]:
    runs: list[list[ByteRange]] = []
    for one in sorted(ranges, key=lambda one: one.offset):
        last = runs[-1] if runs else None
        if last and _continues(last, one):
            last.append(one)
        else:
            runs.append([one])
    return runs


def _continues(run: Sequence[ByteRange], one: ByteRange) -> bool:
    gap = one.offset - (run[-1].offset + len(run[-1].target))
    return 0 <= gap <= RUN_GAP and one.offset + len(one.target) - run[0].offset <= RUN_BYTES


def _scatter(chunk: memoryview, position: int, waiting: list[ByteRange]) -> list[ByteRange]:
    """Copy what of ``chunk``, which begins at byte ``position``, belongs to the waiting ranges; those still waiting."""
    end = position + len(chunk)
    while waiting and waiting[0].offset < end:
        first = waiting[0]
        start = max(first.offset, position)
        count = min(len(first.target) - (start - first.offset), end - start)
        first.target[start - first.offset : start - first.offset + count] = chunk[
            start - position : start - position + count
        ]
        if start + count < first.offset + len(first.target):
            break
        waiting = waiting[1:]
    return waiting


def _table_options(options: Mapping[str, str]) -> dict[str, str]:
    url = endpoint(options)
    place = {"aws_endpoint": url, "allow_http": str(url.startswith("http://")).lower()} if url else {}
    return {**_TABLE_DEFAULTS, **place, **options}
