"""Bytes to and from S3: ranges, large objects in pieces, and what is left when it is over."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.stores import open_store, s3_client, s3_read, s3_store
from storage.stores.base import ByteRange, Store
from storage.stores.s3_client import file_system
from tempo_core.errors import LibraryError
from tests.support import ROOT
from tests.support.s3_server import Fault, Proxy

pytestmark = pytest.mark.s3
BUCKET = "archive"


@pytest.fixture
def store(proxy: Proxy, request: pytest.FixtureRequest) -> Store:
    return open_store(f"s3://{BUCKET}/{request.node.name}")


def test_ranges_in_any_order_fill_their_own_targets_only(store: Store, proxy: Proxy) -> None:
    data = bytes(range(256)) * 1024
    store.write_bytes("ranges", data)
    spans = [(200_000, 5), (10, 70_000), (70_010, 0), (70_050, 100)]  # far, first, empty, after a gap
    targets = [bytearray(length) for _, length in spans]
    proxy.requests.clear()
    proxy.faults.append(Fault("drop", "GET .*ranges"))
    store.read_ranges(
        "ranges", [ByteRange(start, memoryview(target)) for (start, _), target in zip(spans, targets, strict=True)]
    )
    assert [bytes(target) for target in targets] == [data[start : start + length] for start, length in spans]
    assert proxy.count("GET") == 2 + 1, "neighbours share a GET, and what was dropped takes another"


def test_a_large_part_goes_up_and_comes_back_in_pieces(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "UPLOAD_BYTES", 5 << 20)  # S3 takes no smaller ones
    monkeypatch.setattr(s3_read, "PIECE_BYTES", 1 << 20)
    data = os.urandom((12 << 20) + 1)
    staged = store.staging("parts/large")
    staged.write_bytes(data)
    proxy.faults.append(Fault("error", "PUT .*partNumber=2"))
    store.publish(staged, "parts/large")
    proxy.faults += [Fault("drop", "GET .*large bytes=0-"), Fault("error", "GET .*large")]
    assert b"".join(map(bytes, store.blocks("parts/large"))) == data
    assert proxy.count("PUT .*large.*partNumber=") == 3 + 1
    assert not staged.exists()


def test_a_large_upload_that_fails_leaves_no_pieces(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "UPLOAD_BYTES", 5 << 20)
    staged = store.staging("parts/large")
    staged.write_bytes(bytes(11 << 20))
    proxy.faults.append(Fault("error", "PUT .*partNumber=2", times=10**6))
    with pytest.raises(LibraryError, match="parts/large"):
        store.publish(staged, "parts/large")
    assert list(store.files("parts")) == []
    assert not file_system({}).call_s3("list_multipart_uploads", Bucket=BUCKET).get("Uploads")


def test_a_dripping_answer_is_given_up_in_time(store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "TRANSFER_DEADLINE_S", 1.0)
    store.write_bytes("slow", bytes(1000))
    proxy.faults.append(Fault("slow", "GET .*slow", times=10**6, pieces=600, pause_s=0.1))
    target = bytearray(1000)
    with pytest.raises(LibraryError, match="slow: it took too long"):
        store.read_ranges("slow", [ByteRange(0, memoryview(target))])


def test_a_folder_is_listed_whole_and_nothing_beside_it(store: Store) -> None:
    for path in ("parts/a", "parts/b/c", "parts2/d", "e"):
        store.write_bytes(path, path.encode())
    assert {file.path: file.size for file in store.files("parts")} == {"parts/a": 7, "parts/b/c": 9}
    assert len(list(store.files(""))) == 4
    assert list(store.files("nothing")) == []
    assert list(open_store(f"{store.uri}/e").files("")) == [], "an object is no folder"


USE_AND_EXIT = """
import sys
from storage import open_library
from storage.stores import open_store
print("s3fs" in sys.modules)
print(open_store(sys.argv[1]).read_bytes("x").decode())
"""


def test_s3_is_loaded_when_needed_and_ends_without_a_word(store: Store) -> None:
    store.write_bytes("x", b"read")
    command = [sys.executable, "-W", "default::ResourceWarning", "-c", USE_AND_EXIT, store.uri]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("False\nread\n", "")


def test_parts_that_are_begun_at_once_are_published_whence_they_were_staged(store: Store) -> None:
    """Two videos that an actor began together: one was looked for in the scratch folder of the other."""
    names = [f"parts/{number}" for number in range(8)]
    begun = threading.Barrier(len(names))

    def stage(name: str) -> None:
        begun.wait(timeout=60)
        store.staging(name).write_text(name)

    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(stage, names))
    for name in names:
        store.publish(store.staging(name), name)
    assert [store.read_bytes(name).decode() for name in names] == names
