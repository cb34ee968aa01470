"""Speaking to S3 through s3fs: one client with explicit timeouts, a deadline on every request, its errors as ours."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from botocore.exceptions import BotoCoreError
from s3fs import S3FileSystem

from storage.stores.aws_profile import endpoint, region
from tempo_core.errors import TempoError

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
TRIES = 5  # of a request, and in a row without a byte of progress in a read
REQUEST_DEADLINE_S = 150.0  # above what the tries and the pauses between them take
TRANSFER_DEADLINE_S = 600.0  # and a second for each of:
SLOWEST_RATE = 10**6  # bytes/s


@dataclass(frozen=True)
class ObjectAddress:
    """A bucket and a key in it."""

    bucket: str
    key: str

    @property
    def path(self) -> str:
        """As s3fs names it: bucket/key."""
        return f"{self.bucket}/{self.key}"

    @property
    def uri(self) -> str:
        """As s3://bucket/key."""
        return f"s3://{self.bucket}/{self.key}"


def parse_uri(uri: str) -> ObjectAddress:
    """The bucket and key of an s3:// URI; the key may be empty."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return ObjectAddress(bucket, key)


def file_system(options: Mapping[str, str]) -> Any:
    """The S3FileSystem for these options (LanceDB's names).

    What is not given comes from the environment, then from the user's profile of the AWS tools, as for them.
    """
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    given = tuple(options.get(name) for name in names)
    return _file_system(os.getpid(), endpoint(options), region(options), given)


@lru_cache(maxsize=16)
def _file_system(process: int, url: str | None, region: str | None, given: tuple[str | None, ...]) -> Any:  # noqa: ARG001
    """One for all threads (s3fs would make one for each) of a ``process``: its event loop does not survive a fork."""
    key, secret, token = given
    config = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "retries": {"total_max_attempts": TRIES, "mode": "standard"},
        "max_pool_connections": 16,
        "request_checksum_calculation": "when_required",  # not every S3 server knows the newer trailing checksums
        "response_checksum_validation": "when_required",
    }
    files = S3FileSystem(
        key=key,
        secret=secret,
        token=token,
        endpoint_url=url,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs=config,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    files.retries = 1  # botocore's tries would be multiplied by its own
    return files


def request(files: Any, method: str, address: ObjectAddress, **parameters: Any) -> Any:
    """The answer to one request about an object; errors as s3fs raises them."""
    return files.call_s3(method, Bucket=address.bucket, Key=address.key, timeout=REQUEST_DEADLINE_S, **parameters)


def list_objects(files: Any, bucket: str, prefix: str) -> Iterator[Any]:
    """What S3 says of each object whose key begins with ``prefix``, page by page; errors as s3fs raises them.

    s3fs's own listings take a key with an empty part (a//b) for another.
    """
    asked = {"Bucket": bucket, "Prefix": prefix}
    while True:
        page = files.call_s3("list_objects_v2", timeout=REQUEST_DEADLINE_S, **asked)
        yield from page.get("Contents", ())
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def transfer_deadline(size: int) -> float:
    """When, of time.monotonic(), a transfer of that many bytes that begins now has taken too long."""
    return time.monotonic() + TRANSFER_DEADLINE_S + size / SLOWEST_RATE


def time_left(deadline: float) -> float:
    """Seconds until ``deadline`` of time.monotonic(); TimeoutError past it (to fsspec, no time would be all time)."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@contextmanager
def s3_errors(uri: str, kind: type[TempoError]) -> Iterator[None]:
    """S3's errors as ``kind`` naming the URI; an object that is not there is a FileNotFoundError."""
    try:
        yield
    except BotoCoreError as error:
        raise kind(f"{uri}: {error}") from error
    except TimeoutError as error:
        raise kind(f"{uri}: it took too long and was given up") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError) or status_code(error) == 404:
            raise FileNotFoundError(uri) from error
        raise kind(f"{uri}: {error.__cause__ if status_code(error) else error}") from error


def status_code(error: BaseException | None) -> int | None:
    """The HTTP status of the answer that s3fs turned into this error."""
    answer = getattr(getattr(error, "__cause__", None), "response", None)
    return answer and int(answer["ResponseMetadata"]["HTTPStatusCode"])


def is_refused_condition(error: BaseException | None) -> bool:
    """Whether a conditional request found another state than it named (412), or a race for it (409)."""
    return status_code(error) in {409, 412}
