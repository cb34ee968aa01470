"""Speaking to S3: one client with explicit timeouts, its errors as ours, and reads that survive a broken connection."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from urllib3.exceptions import HTTPError

from tempo_core.errors import TempoError

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
TRIES = 5  # of a request, and in a row without a byte of progress in a read
READ_DEADLINE_S = 600.0
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ObjectPlace:
    """A bucket and a key in it."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """As s3://bucket/key."""
        return f"s3://{self.bucket}/{self.key}"


def parse_uri(uri: str) -> ObjectPlace:
    """The place of an s3:// URI; the key may be empty."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return ObjectPlace(bucket, key)


def endpoint(options: Mapping[str, str]) -> str | None:
    """The endpoint that is asked for, None for AWS itself."""
    given = options.get("aws_endpoint") or options.get("endpoint")
    return given or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def s3_client(options: Mapping[str, str], tries: int = TRIES, read_timeout_s: int = READ_TIMEOUT_S) -> Any:
    """The client for these options (LanceDB's names); what is not given comes from the environment."""
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    region = options.get("aws_region") or os.environ.get("AWS_REGION")
    given = tuple((name, options[name]) for name in names if name in options)
    return _client(endpoint(options), region, given, tries, read_timeout_s)


@lru_cache(maxsize=16)
def _client(
    url: str | None, region: str | None, given: tuple[tuple[str, str], ...], tries: int, read_timeout_s: int
) -> Any:
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": tries, "mode": "standard"},
        max_pool_connections=16,
        request_checksum_calculation="when_required",  # not every S3 server knows the newer trailing checksums
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", endpoint_url=url, region_name=region, config=config, **dict(given))


@contextmanager
def s3_errors(uri: str, kind: type[TempoError]) -> Iterator[None]:
    """S3's errors as ``kind`` naming the URI; an object that is not there is a FileNotFoundError."""
    try:
        yield
    except ClientError as error:
        if status_code(error) == 404:
            raise FileNotFoundError(uri) from error
        raise kind(f"{uri}: S3 answered {error.response['Error'].get('Code')}: {error}") from error
    except (BotoCoreError, HTTPError) as error:
        raise kind(f"{uri}: {error}") from error


def status_code(error: ClientError) -> int:
    """The HTTP status of an answer."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def is_refused_condition(error: ClientError) -> bool:
    """Whether a conditional request found another state than it named (412), or a race for it (409)."""
    return status_code(error) in {409, 412}


def read_object(
    options: Mapping[str, str],
    place: ObjectPlace,
    start: int,
    end: int,
    etag: str | None = None,
    deadline: float | None = None,
) -> Iterator[bytes]:
    """The bytes from ``start`` to ``end`` (exclusive) in chunks.

    After a 5xx, a stall or a broken connection it goes on from where it was. EOFError if the object is too short,
    TimeoutError past ``deadline`` (of time.monotonic(), looked at with every piece that arrives), ClientError (412
    where ``etag`` no longer fits), and the last error after ``TRIES`` in a row without progress.
    """
    deadline = time.monotonic() + READ_DEADLINE_S if deadline is None else deadline
    failures = 0
    while start < end:
        try:
            for chunk in _chunks(*_open_body(_reader(options, deadline), place, start, end, etag)):
                start, failures = start + len(chunk), 0
                yield chunk
                _check_deadline(place, deadline)
        except (ClientError, HTTPClientError, BotoConnectionError, HTTPError, ConnectionError) as error:
            failures += 1
            _check_deadline(place, deadline)
            if failures >= TRIES or (isinstance(error, ClientError) and status_code(error) < 500):
                raise
            time.sleep(min(0.1 * 2**failures, max(0.0, deadline - time.monotonic())))


def _reader(options: Mapping[str, str], deadline: float) -> Any:
    """A client that tries once and stalls no longer than the deadline is away (but for the last second)."""
    left = deadline - time.monotonic()
    return s3_client(options, tries=1, read_timeout_s=next((one for one in (READ_TIMEOUT_S, 5) if one <= left), 1))


def _open_body(client: Any, place: ObjectPlace, start: int, end: int, etag: str | None) -> tuple[Any, int]:
    """The answer's body and how many bytes it holds; EOFError if they are not all of the range."""
    condition = {"IfMatch": etag} if etag else {}
    try:
        answer = client.get_object(Bucket=place.bucket, Key=place.key, Range=f"bytes={start}-{end - 1}", **condition)
    except ClientError as error:
        if status_code(error) == 416:  # the range begins behind the end
            raise EOFError(f"{place.uri} ends before byte {start}") from error
        raise
    if int(answer["ContentLength"]) < end - start:
        raise EOFError(f"{place.uri} ends at byte {start + answer['ContentLength']}, before byte {end}")
    return answer["Body"], int(answer["ContentLength"])


def _chunks(body: Any, expected: int) -> Iterator[bytes]:
    with body:
        # read1 gives what has arrived; StreamingBody.read would wait for the whole chunk however slowly it comes.
        while expected > 0 and (chunk := body._raw_stream.read1(_CHUNK)):
            expected -= len(chunk)
            yield chunk
        if expected > 0:
            raise ConnectionResetError(f"the connection broke {expected} bytes early")


def _check_deadline(place: ObjectPlace, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"{place.uri}: reading it took too long and was given up")
