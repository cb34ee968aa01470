"""Sources on S3: brought to bounded scratch space, hashed on the way, cleaned up whatever happens."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from flows.video.source_frames import DecodeSettings, decode_source
from storage import fetch, stat_source
from storage.sources import s3_sources
from storage.stores import s3_read
from storage.stores.s3_client import file_system
from tempo_core.errors import NoSpace, SourceChanged, SourceError
from tempo_core.spec import PAPER, FrameGeometry
from tests.support.s3_server import Fault, Proxy

pytestmark = pytest.mark.s3
BUCKET = "videos"
URI = f"s3://{BUCKET}/day one/talk.mp4"
DATA = bytes(range(256)) * 4096


@pytest.fixture
def proxy(proxy: Proxy) -> Proxy:
    put("day one/talk.mp4", DATA)
    proxy.requests.clear()
    return proxy


def put(key: str, data: bytes) -> None:
    file_system({}).call_s3("put_object", Bucket=BUCKET, Key=key, Body=data)


def left_in(scratch: Path) -> list[str]:
    return [str(path) for path in scratch.rglob("*") if path.is_file()]


def test_a_fetched_object_is_hashed_and_gone_afterwards(proxy: Proxy, tmp_path: Path) -> None:
    with fetch(URI, tmp_path) as fetched:
        assert fetched.path.name == "talk.mp4"
        assert fetched.path.read_bytes() == DATA
        assert fetched.sha256 == hashlib.sha256(DATA).hexdigest()
        assert fetched.source == stat_source(URI)
    assert list(tmp_path.iterdir()) == []


def test_a_large_object_is_fetched_by_several_ranges(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_read, "PIECE_BYTES", 100_000)
    with fetch(URI, tmp_path) as fetched:
        assert fetched.path.read_bytes() == DATA
        assert fetched.sha256 == hashlib.sha256(DATA).hexdigest()
    assert proxy.count("GET .*talk.* bytes=") == -(-len(DATA) // 100_000)


@pytest.mark.parametrize("kind", ["error", "drop", "slow"])
def test_a_failing_network_is_outlived_by_going_on_where_it_broke(proxy: Proxy, tmp_path: Path, kind: Any) -> None:
    proxy.faults.append(Fault(kind, "GET .*talk", times=2))
    with fetch(URI, tmp_path) as fetched:
        assert fetched.path.read_bytes() == DATA
        assert fetched.sha256 == hashlib.sha256(DATA).hexdigest()
    ranges = [request.split("=")[-1] for request in proxy.requests if request.startswith("GET")]
    assert (ranges[0] != ranges[-1]) == (kind == "drop"), "only what was missing is asked for again"


@pytest.mark.parametrize("kind", ["error", "drop"])
def test_a_network_that_stays_down_ends_in_one_error_and_no_scratch(proxy: Proxy, tmp_path: Path, kind: Any) -> None:
    proxy.faults.append(Fault(kind, "GET .*talk", times=10**6))
    with pytest.raises(SourceError, match=URI), fetch(URI, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["slow", "stall"])
def test_a_deadline_is_kept_however_slowly_bytes_come(proxy: Proxy, tmp_path: Path, kind: Any) -> None:
    proxy.faults.append(Fault(kind, "GET .*talk", times=10**6, pieces=600, pause_s=0.1 if kind == "slow" else 60))
    begun = time.monotonic()
    with pytest.raises(SourceError, match="took too long"), fetch(URI, tmp_path, deadline_s=1.5):
        pass
    assert time.monotonic() - begun < 15, "a hang would take a minute"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_object_or_bucket_is_told(proxy: Proxy, tmp_path: Path) -> None:
    for uri in (f"s3://{BUCKET}/nothing.mp4", "s3://no-such-bucket/x.mp4"):
        with pytest.raises(SourceError, match=f"{uri}: no such object"), fetch(uri, tmp_path):
            pass


def test_an_object_that_changes_while_it_is_read_is_refused(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = s3_sources._download

    def change_first(*args: Any) -> str:
        put("day one/talk.mp4", DATA[::-1])
        return download(*args)

    monkeypatch.setattr(s3_sources, "_download", change_first)
    with pytest.raises(SourceChanged, match="changed while it was read"), fetch(URI, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_scratch_space_is_bounded(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=f"has {len(DATA)} bytes, more than the 1000"), fetch(URI, tmp_path, 1000):
        pass
    free = type("Usage", (), {"free": 10})
    monkeypatch.setattr("storage.sources.s3_sources.shutil.disk_usage", lambda path: free)
    with pytest.raises(NoSpace, match="only 10 free"), fetch(URI, tmp_path):
        pass
    assert proxy.count("GET .*talk") == 0
    assert list(tmp_path.iterdir()) == []


def test_scratch_that_others_filled_costs_one_video_not_the_run(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """NoSpace would end it: that is for the library's own disk."""
    monkeypatch.setattr("flows.video.source_frames._most_bytes", lambda *_: 2 * len(DATA))
    monkeypatch.setattr("storage.sources.s3_sources.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(SourceError, match="only 10 free"):
        decode_source(URI, DecodeSettings(PAPER, FrameGeometry()))


def test_no_folder_of_a_name_that_can_be_guessed_is_used(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user could have made it before, as a link to anywhere."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (tmp_path / f"tempo-scratch-{os.getuid()}").symlink_to(elsewhere)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reading = decode_source(URI, DecodeSettings(PAPER, FrameGeometry()))
    assert list(elsewhere.iterdir()) == []
    reading.close()


def test_an_error_of_the_caller_cleans_up_too(proxy: Proxy, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), fetch(URI, tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def fetch_and_die(scratch: str) -> None:
    with fetch(URI, Path(scratch)):
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_is_swept_by_the_next(proxy: Proxy, tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=fetch_and_die, args=(str(tmp_path),))
    process.start()
    process.join(60)
    assert [Path(path).name for path in left_in(tmp_path) if not path.endswith(".lock")] == ["talk.mp4"]
    with fetch(URI, tmp_path) as first, fetch(URI, tmp_path) as second:
        files = [path for path in left_in(tmp_path) if not path.endswith(".lock")]
        assert sorted(files) == sorted([str(first.path), str(second.path)]), "a living process keeps its own"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [f"{'n' * 1000}.mp4", "a#b?c%20d.mp4", "//x.mp4", "dots/.."])
def test_an_object_whose_name_no_file_can_have_is_fetched(proxy: Proxy, tmp_path: Path, name: str) -> None:
    put(name, DATA)
    with fetch(f"s3://{BUCKET}/{name}", tmp_path) as fetched:
        assert fetched.path.read_bytes() == DATA
        assert fetched.path.suffix == Path(name).suffix
