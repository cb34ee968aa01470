"""The writer's lease on S3: an object made by a conditional put, kept alive by a heartbeat, taken over once expired.

All times are the server's (its Date and Last-Modified), so clocks need not agree. What a late holder can still do after
a take-over is bounded by what a commit is: one upsert that points to a whole generation of its own, never to a half.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Any

from storage.stores.lease import busy, holder
from storage.stores.s3_client import ObjectAddress, is_refused_condition, request, s3_errors
from storage.stores.s3_read import read_small
from tempo_core.errors import LibraryBusy, LibraryError

LEASE_TTL_S = 60.0
RENEWALS = 4  # in one time to live
POLL_S = 0.5


class S3Lease:
    """Conditional puts on one object; ``check`` before each commit fences a holder that lost it."""

    def __init__(self, files: Any, address: ObjectAddress, library: str) -> None:
        self._files, self._address, self._library = files, address, library
        self._id = secrets.token_hex(8)
        self._etag: str | None = None
        self._renewed = 0.0
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    def acquire(self, wait_s: float) -> None:
        """Create the object, or replace an expired one; LibraryBusy after ``wait_s``."""
        deadline = time.monotonic() + wait_s
        while not self._try_acquire():
            if time.monotonic() >= deadline:
                raise busy(self._library, self._read()[0])
            time.sleep(POLL_S)
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._heart.start()

    def check(self) -> None:
        """LibraryBusy unless the lease is surely still ours; renewed first if it is old."""
        if self._etag is None:
            raise LibraryBusy(f"{self._library}: this writer has given its lease back")
        if time.monotonic() - self._renewed < LEASE_TTL_S / 2:
            return
        if not self._renew():
            raise busy(self._library, self._read()[0])

    def release(self) -> None:
        """Stop the heartbeat and delete the object, if it is still ours."""
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
        etag, self._etag = self._etag, None
        if etag is None:
            return
        try:
            with s3_errors(self._address.uri, LibraryError):
                request(self._files, "delete_object", self._address, IfMatch=etag)
        except FileNotFoundError:
            return
        except LibraryError as error:
            if not is_refused_condition(error.__cause__):
                raise

    def _try_acquire(self) -> bool:
        if self._put(IfNoneMatch="*"):
            return True
        written, etag, age_s = self._read()
        if etag is None:
            return False  # given back in between: the next round gets it
        if _id_of(written) == self._id:  # our own put, whose answer was lost
            self._etag = etag
            return True
        return age_s > LEASE_TTL_S and self._put(IfMatch=etag)

    def _renew(self) -> bool:
        with self._guard:
            if self._put(IfMatch=self._etag):
                return True
            written, etag, _ = self._read()
            self._etag = etag if _id_of(written) == self._id else None
            return self._etag is not None

    def _put(self, **condition: str | None) -> bool:
        """Whether the object is now ours; False where the condition does not hold."""
        body = json.dumps({**holder(), "id": self._id, "nonce": secrets.token_hex(4)}).encode()  # a new ETag each time
        begun = time.monotonic()
        try:
            with s3_errors(self._address.uri, LibraryError):
                answer = request(self._files, "put_object", self._address, Body=body, **condition)
        except FileNotFoundError:  # nothing there to match
            return False
        except LibraryError as error:
            if is_refused_condition(error.__cause__):
                return False
            raise
        self._etag, self._renewed = answer["ETag"], begun
        return True

    def _read(self) -> tuple[str, str | None, float]:
        """(what the holder wrote, the object's ETag, its age in seconds by the server's clock)."""
        try:
            with s3_errors(self._address.uri, LibraryError):
                written, answer = read_small(self._files, self._address)
        except FileNotFoundError:
            return "", None, 0.0
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return written.decode(errors="replace"), answer["ETag"], (now - answer["LastModified"]).total_seconds()

    def _beat(self) -> None:
        while not self._stop.wait(LEASE_TTL_S / RENEWALS):
            try:
                if not self._renew():
                    return  # lost: check() tells
            except LibraryError:
                continue  # the next beat tries again; check() refuses to commit on an old lease


def _id_of(written: str) -> str | None:
    try:
        return str(json.loads(written)["id"])
    except (ValueError, KeyError, TypeError):
        return None
