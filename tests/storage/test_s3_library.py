"""A library on S3 keeps the same promises, over a network that fails."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage import Library, open_library
from storage.manifest import read_manifest, write_manifest
from storage.schemas import CATALOG, FAILURES
from storage.stores import s3_lease
from storage.stores.s3_client import file_system, list_objects, parse_uri
from tempo_core.errors import CorruptPart, LibraryBusy, LibraryError, LibraryNotFound
from tests.support.s3_server import Fault, Proxy
from tests.support.storage_harness import contents, index, put, states_part, tiny_video, video_id

pytestmark = pytest.mark.s3
BUCKET = "archive"


@pytest.fixture
def library(proxy: Proxy, request: pytest.FixtureRequest) -> Library:
    return open_library(f"s3://{BUCKET}/{request.node.name}", create=True)


def asked(method: str, **parameters: Any) -> Any:
    return file_system({}).call_s3(method, Bucket=BUCKET, **parameters)


def keys(library: Library, folder: str) -> list[str]:
    return sorted(file.path for file in library.store.files(folder))


def test_the_core_of_a_library_holds_on_s3(library: Library, tmp_path: Path) -> None:
    """Indexed, copied, changed, failed, removed: the same contents as on a local disk."""
    local = open_library(str(tmp_path / "library"), create=True)
    for one in (library, local):
        index(one, {"/a.mp4": 1, "/b.mp4": 1, "/c.mp4": 2, "/d.mp4": -1})
        index(one, {"/a.mp4": 3, "/b.mp4": 1, "/c.mp4": 2, "/d.mp4": 4})
        with one.writer() as writer:
            writer.remove(["/c.mp4"])
            writer.prune(grace_s=0)
        assert one.verify(grace_s=0) == []
    assert contents(library) == contents(local)
    made = tiny_video(3)
    record = library.videos(select=["a.mp4"])[0]
    got = library.read_states(record, verify=True)
    assert [state.rows.tobytes() for state in got] == [state.rows.tobytes() for state in made.states]
    assert [jpegs for _, jpegs, _ in library.read_frames(record)] == made.jpegs
    assert {hit.video.video_id for hit in library.search(made.features[0], limit=9)} == {
        video_id(seed) for seed in (1, 3, 4)
    }


def test_a_budget_drops_states_on_s3_and_a_question_costs_two_requests_a_video_and_day(
    library: Library, proxy: Proxy
) -> None:
    index(library, {"/a.mp4": 1, "/b.mp4": 2})
    before = library.videos()
    with library.writer() as writer:
        writer.set_states_budget(states_part(before[0]).size)
        proxy.requests.clear()
        library.mark_asked([video_id(1)])
        library.mark_asked([video_id(1)])
        assert (proxy.count("HEAD .*asked/"), proxy.count("PUT .*asked/")) == (2, 1)
        assert writer.keep_to_budget().videos == 1
        writer.prune()
        assert len(library.read_states(before[1], verify=True)) == 3, "for the grace period"
        writer.prune(grace_s=0)
    assert [record.states_part is None for record in library.videos()] == [False, True]
    assert len([key for key in keys(library, "parts") if "/states-" in key]) == 1
    assert library.verify(grace_s=0) == []


def test_an_older_library_is_upgraded_on_s3(library: Library) -> None:
    index(library, {"/a.mp4": 1, "/d.mp4": -1})
    before = contents(library)
    library.tables.ensure(CATALOG).add_columns({"title": "'A title'"})
    library.tables.ensure(FAILURES).alter_columns({"path": "step", "rename": "stage"})
    write_manifest(library.store, replace(read_manifest(library.store), schema=1))
    assert contents(open_library(library.uri, create=True)) == before


def test_a_place_without_a_library_or_bucket_is_told(proxy: Proxy) -> None:
    for uri in (f"s3://{BUCKET}/nothing", "s3://no-such-bucket/x"):
        with pytest.raises(LibraryNotFound, match=uri):
            open_library(uri)


def test_options_name_another_endpoint_than_the_environment(
    library: Library, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(library, {"/a.mp4": 1})
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    options = {
        "aws_endpoint": proxy.url,
        "aws_access_key_id": "x",
        "aws_secret_access_key": "y",
        "aws_region": "us-east-1",
    }
    assert len(open_library(library.uri, storage_options=options).videos()) == 1


def test_neighbouring_segments_cost_one_get(library: Library, proxy: Proxy) -> None:
    index(library, {"/a.mp4": 1})
    record = library.videos()[0]
    segments = library.segments(record)
    proxy.requests.clear()
    library.read_states(record, segments=segments)
    assert len(proxy.requests) == 1
    assert proxy.count("GET .*states-.* bytes=") == 1
    proxy.requests.clear()
    library.read_states(record, [1], segments=segments)
    start, length = segments[1].state.offset, segments[1].state.length
    assert [request.split()[-1] for request in proxy.requests] == [f"bytes={start}-{start + length - 1}"]


@pytest.mark.parametrize("kind", ["error", "drop", "slow"])
def test_reads_survive_a_failing_network(library: Library, proxy: Proxy, kind: Any) -> None:
    index(library, {"/a.mp4": 1})
    record = library.videos()[0]
    proxy.faults += [Fault(kind, "GET .*parts/", times=3), Fault(kind, "GET .*tables/", times=2)]
    got = library.read_states(record, verify=True)
    assert [state.rows.tobytes() for state in got] == [state.rows.tobytes() for state in tiny_video(1).states]
    assert [jpegs for _, jpegs, _ in library.read_frames(record)] == tiny_video(1).jpegs
    assert proxy.faults[0].times == 0


def test_writes_survive_a_failing_network(library: Library, proxy: Proxy) -> None:
    proxy.faults += [Fault("error", "PUT .*parts/", times=2), Fault("error", "PUT .*tables/", times=3)]
    index(library, {"/a.mp4": 1})
    assert [fault.times for fault in proxy.faults] == [0, 0]
    assert library.verify(grace_s=0) == []


def test_a_network_that_stays_down_is_one_clear_error(
    library: Library, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(library, {"/a.mp4": 1})
    record = library.videos()[0]
    proxy.faults.append(Fault("error", "GET .*parts/", times=10**6))
    with pytest.raises(LibraryError, match="states-"):
        library.read_states(record)


def test_a_missing_part_is_corrupt(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    record = library.videos()[0]
    library.store.delete(states_part(record).path)
    with pytest.raises(CorruptPart, match="missing"):
        library.read_states(record)
    library.store.write_bytes(states_part(record).path, b"short")
    with pytest.raises(CorruptPart, match="cut short"):
        library.read_states(record)


def test_an_upload_that_fails_leaves_nothing_visible(library: Library, proxy: Proxy) -> None:
    proxy.faults.append(Fault("error", "PUT .*parts/.*states", times=10**6))
    with pytest.raises(LibraryError, match="states-"):
        index(library, {"/a.mp4": 1})
    assert library.videos() == []
    proxy.faults.clear()
    with library.writer() as writer:
        writer.prune(grace_s=0)
    assert keys(library, "parts") == []


def test_uploads_that_were_never_ended_are_swept(library: Library) -> None:
    place = parse_uri(f"{library.uri}/parts/aa/half")
    asked("create_multipart_upload", Key=place.key)
    library.store.discard_uploads(oldest=0)
    assert asked("list_multipart_uploads").get("Uploads")
    with library.writer() as writer:
        writer.prune(grace_s=3600)  # moto says of every upload that it was begun in 2010
    assert not asked("list_multipart_uploads").get("Uploads")


def test_one_writer_at_a_time(library: Library) -> None:
    with library.writer(), pytest.raises(LibraryBusy, match=f"process {os.getpid()} on "):
        open_library(library.uri).writer()
    with open_library(library.uri).writer():
        pass
    assert keys(library, "") == ["library.json"]


def test_a_heartbeat_keeps_the_lease(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_lease, "LEASE_TTL_S", 3.0)
    with library.writer() as writer:
        with pytest.raises(LibraryBusy):
            open_library(library.uri).writer(wait_s=6)
        put(library, writer, "/a.mp4", 1)
    assert len(library.videos()) == 1


def hold_and_stop(uri: str, ttl_s: float) -> None:
    s3_lease.LEASE_TTL_S = ttl_s
    open_library(uri).writer()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_writers_lease_expires(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_lease, "LEASE_TTL_S", 2.0)
    process = multiprocessing.get_context("spawn").Process(target=hold_and_stop, args=(library.uri, 2.0))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(LibraryBusy, match=f"process {process.pid} on "):
        library.writer()
    with library.writer(wait_s=20) as writer:
        put(library, writer, "/a.mp4", 1)


def test_a_writer_that_lost_its_lease_cannot_commit(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a long sleep: another took over meanwhile."""
    monkeypatch.setattr(s3_lease, "LEASE_TTL_S", 2.0)
    monkeypatch.setattr(s3_lease.S3Lease, "_beat", lambda lease: None)
    late = library.writer()
    time.sleep(1)
    with open_library(library.uri).writer(wait_s=20) as other:
        put(library, other, "/b.mp4", 2)
        with pytest.raises(LibraryBusy, match="is being written by"):
            put(library, late, "/a.mp4", 1)
    late.close()
    assert [record.uri for record in library.videos()] == ["/b.mp4"]


def test_no_scratch_stays_behind(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    index(library, {"/a.mp4": 1})
    (folder,) = tmp_path.iterdir()
    assert [file.name for file in folder.iterdir()] == [".lock"]


def test_the_client_has_timeouts(proxy: Proxy) -> None:
    config = file_system({}).s3.meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 20)


@pytest.mark.parametrize("name", ["lib#1", "lib?1", "lib%201", "lib 1", "100%"])
def test_all_of_a_library_lies_below_its_address_however_that_reads_as_a_url(proxy: Proxy, name: str) -> None:
    library = open_library(f"s3://{BUCKET}/odd/{name}", create=True)
    index(library, {f"/{name}.mp4": 1})
    assert [record.uri for record in open_library(library.uri).videos()] == [f"/{name}.mp4"]
    all_keys = [one["Key"] for one in list_objects(file_system({}), BUCKET, "odd/")]
    mine = [key.removeprefix(f"odd/{name}/") for key in all_keys if key.startswith(f"odd/{name}/")]
    assert {key.split("/")[0] for key in mine} == {"library.json", "tables", "parts"}
    others = {key.split("/")[1] for key in all_keys} - {name}
    assert others <= {"lib#1", "lib?1", "lib%201", "lib 1", "100%"}, "nothing beside them"
