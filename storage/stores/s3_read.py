"""Reading from S3: straight into the caller's memory, several requests at a time, and on from where a connection broke.

All of it runs on the event loop of s3fs, where one deadline ends it however slowly the bytes come.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from botocore.exceptions import BotoCoreError
from fsspec.asyn import sync
from s3fs.core import S3_RETRYABLE_ERRORS

from storage.stores.base import ByteRange
from storage.stores.s3_client import (
    REQUEST_DEADLINE_S,
    TRIES,
    ObjectAddress,
    s3_errors,
    status_code,
    time_left,
    transfer_deadline,
)
from tempo_core.errors import LibraryError

READS = 8  # at a time
RUN_BYTES = 32 << 20  # one GET: large enough that its latency is small, small enough to share among the reads
RUN_GAP = 64 << 10  # bytes between two ranges that are read along rather than asked around
PIECE_BYTES = 8 << 20  # of an object that is read from one end to the other, READS / 2 at a time
_CHUNK = 1 << 20
_BROKEN = (BotoCoreError, *S3_RETRYABLE_ERRORS)  # what a body that does not come through raises


def read_small(files: Any, address: ObjectAddress) -> tuple[bytes, Any]:
    """(a small object whole, S3's answer with its headers), by one GET."""
    return sync(files.loop, _get, files, address, timeout=REQUEST_DEADLINE_S)  # type: ignore[no-any-return]


def read_ranges(
    files: Any,
    address: ObjectAddress,
    ranges: Sequence[ByteRange],
    etag: str | None = None,
    deadline: float | None = None,
) -> None:
    """Fill every range's target: neighbouring ranges by one GET, several GETs at a time.

    Each goes on from where it was after a stall or a broken connection. EOFError if the object is too short,
    TimeoutError past ``deadline`` (of time.monotonic()), an OSError of status 412 where ``etag`` no longer fits, and
    the last error after ``TRIES`` in a row without progress.
    """
    _read_runs(files, address, _runs(ranges), etag, deadline)


def read_object(
    files: Any, address: ObjectAddress, size: int, etag: str | None = None, deadline: float | None = None
) -> Iterator[memoryview]:
    """The object's ``size`` bytes in large blocks, each good until the next one; errors as in ``read_ranges``."""
    deadline = transfer_deadline(size) if deadline is None else deadline
    buffer = memoryview(bytearray(min(size, PIECE_BYTES * READS // 2)))
    for start in range(0, size, max(1, len(buffer))):
        block = buffer[: size - start]
        pieces = [
            [ByteRange(start + offset, block[offset : offset + PIECE_BYTES])]
            for offset in range(0, len(block), PIECE_BYTES)
        ]
        _read_runs(files, address, pieces, etag, deadline)
        yield block


def open_object(files: Any, address: ObjectAddress, size: int) -> BinaryIO:
    """A seekable reader of an object of ``size`` bytes; its reads raise LibraryError."""
    return cast(BinaryIO, _ObjectFile(files, address, size))


class _ObjectFile(io.RawIOBase):
    """A GET per read and nothing read ahead: pyarrow gathers its own."""

    def __init__(self, files: Any, address: ObjectAddress, size: int) -> None:
        self._files, self._object, self._size, self._position = files, address, size, 0

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
        target = memoryview(buffer).cast("B")[: max(0, self._size - self._position)]
        if not target:
            return 0
        with s3_errors(self._object.uri, LibraryError):
            read_ranges(self._files, self._object, [ByteRange(self._position, target)])
        self._position += len(target)
        return len(target)


def _read_runs(
    files: Any, address: ObjectAddress, runs: Sequence[Sequence[ByteRange]], etag: str | None, deadline: float | None
) -> None:
    size = sum(len(one.target) for run in runs for one in run)
    deadline = transfer_deadline(size) if deadline is None else deadline
    sync(files.loop, _receive_all, files, address, runs, etag, timeout=time_left(deadline))


async def _receive_all(
    files: Any, address: ObjectAddress, runs: Sequence[Sequence[ByteRange]], etag: str | None
) -> None:
    """All runs, ``READS`` at a time; the first error ends the others, so that nothing is written behind it."""
    waiting = iter(runs)

    async def receive_next() -> None:
        for run in waiting:
            await _receive(files, address, run, etag)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(READS, len(runs))):
                group.create_task(receive_next())
    except ExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return
    raise first


async def _receive(files: Any, address: ObjectAddress, ranges: Sequence[ByteRange], etag: str | None) -> None:
    """One GET over neighbouring ranges, and one more for the rest each time the connection breaks."""
    run = _Run(ranges)
    failures = 0
    while run.position < run.end:
        begun = run.position
        body = await _open_body(files, address, run.position, run.end, etag)
        try:
            await run.take(body)
        except _BROKEN as error:
            failures = await _pause(failures if run.position == begun else 0, error)


class _Run:
    """Neighbouring ranges, as far as they are filled."""

    def __init__(self, ranges: Sequence[ByteRange]) -> None:
        self.position, self.end = ranges[0].offset, ranges[-1].offset + len(ranges[-1].target)
        self._waiting = list(ranges)

    async def take(self, body: Any) -> None:
        """What arrives, from ``position`` on."""
        async with body:
            while self.position < self.end and (chunk := await body.read(_CHUNK)):
                self._scatter(memoryview(chunk))
                self.position += len(chunk)

    def _scatter(self, chunk: memoryview) -> None:
        """Copy what belongs to the ranges; what lies between them is dropped."""
        end = self.position + len(chunk)
        while self._waiting and self._waiting[0].offset < end:
            first = self._waiting[0]
            start = max(first.offset, self.position)
            stop = min(first.offset + len(first.target), end)
            first.target[start - first.offset : stop - first.offset] = chunk[
                start - self.position : stop - self.position
            ]
            if stop < first.offset + len(first.target):
                break
            self._waiting.pop(0)


async def _open_body(files: Any, address: ObjectAddress, start: int, end: int, etag: str | None) -> Any:
    """The answer's body; EOFError if it does not hold the range."""
    condition = {"IfMatch": etag} if etag else {}
    asked = f"bytes={start}-{end - 1}"
    try:
        answer = await files._call_s3("get_object", Bucket=address.bucket, Key=address.key, Range=asked, **condition)
    except OSError as error:
        if status_code(error) == 416:  # the range begins behind the end
            raise EOFError(f"{address.uri} ends before byte {start}") from error
        raise
    if int(answer["ContentLength"]) != end - start:
        answer["Body"].close()
        raise EOFError(f"{address.uri} has {answer['ContentLength']} of the {end - start} bytes from {start}")
    return answer["Body"]


async def _get(files: Any, address: ObjectAddress) -> tuple[bytes, Any]:
    failures = 0
    while True:
        answer = await files._call_s3("get_object", Bucket=address.bucket, Key=address.key)
        try:
            async with answer["Body"] as body:
                return await body.read(), answer
        except _BROKEN as error:
            failures = await _pause(failures, error)


async def _pause(failures: int, error: Exception) -> int:
    """One failure more, after a wait; the error as a ConnectionError where it is one too many."""
    if failures + 1 >= TRIES:
        raise ConnectionError(f"the connection broke {TRIES} times in a row: {error}") from error
    await asyncio.sleep(0.2 * 2**failures)
    return failures + 1


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
