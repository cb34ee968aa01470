"""``tempo`` with sources and library on S3: the same promises over HTTP, on a network that fails."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from storage.stores.s3_client import file_system
from tests.support.s3_server import Fault, Proxy
from tests.support.tempo_cli import small_video, statuses, tempo

pytestmark = pytest.mark.s3
BUCKET = "archive"


def put(path: Path, key: str) -> None:
    file_system({}).call_s3("put_object", Bucket=BUCKET, Key=key, Body=path.read_bytes())


def indexed(source: str, library: str, code: int = 0) -> dict[str, str]:
    return statuses(tempo("index", source, "--library", library, "--json", code=code).json[:-1])


def test_from_s3_to_s3_and_back_as_answers(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    source, library = f"s3://{BUCKET}/videos/", f"s3://{BUCKET}/library"
    put(small_video(tmp_path / "talk.mp4", seconds=6), "videos/day one/talk.mp4")
    put(tmp_path / "talk.mp4", "videos/day two/copy.mp4")
    assert indexed(source, library) == {"talk.mp4": "indexed", "copy.mp4": "duplicate"}
    proxy.requests.clear()
    assert indexed(source, library) == {"talk.mp4": "unchanged", "copy.mp4": "unchanged"}
    assert proxy.count("GET /archive/videos/.*mp4") == 0
    (answer,) = tempo("ask", "What?", "--library", library, "--json").json
    assert {segment["uri"] for segment in answer["segments"]} <= {
        f"{source}day one/talk.mp4",
        f"{source}day two/copy.mp4",
    }
    assert tempo("verify", "--library", library, "--json").json[0]["ok"]
    assert [path for path in (tmp_path / "tmp").rglob("*") if path.is_file() and path.stat().st_size] == []


def test_a_source_that_cannot_be_fetched_is_tried_again_next_time(proxy: Proxy, tmp_path: Path) -> None:
    put(small_video(tmp_path / "a.mp4"), "flaky/a.mp4")
    put(small_video(tmp_path / "b.mp4", seconds=3), "flaky/b.mp4")
    library = str(tmp_path / "library")
    proxy.faults.append(Fault("error", r"GET /archive/flaky/a\.mp4", times=100))
    assert indexed(f"s3://{BUCKET}/flaky/", library, code=3) == {"a.mp4": "failed", "b.mp4": "indexed"}
    proxy.faults.clear()
    assert indexed(f"s3://{BUCKET}/flaky/", library) == {"a.mp4": "indexed", "b.mp4": "unchanged"}


def test_a_run_with_nothing_new_takes_few_requests(proxy: Proxy, tmp_path: Path) -> None:
    put(small_video(tmp_path / "a.mp4"), "few/a.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    put(tmp_path / "broken.mp4", "few/broken.mp4")
    source, library = f"s3://{BUCKET}/few/", f"s3://{BUCKET}/few-library"
    assert indexed(source, library, code=3) == {"a.mp4": "indexed", "broken.mp4": "failed"}
    proxy.requests.clear()
    assert indexed(source, library) == {"a.mp4": "unchanged", "broken.mp4": "failed-before"}
    assert len(proxy.requests) <= 25, proxy.requests


def test_listings_that_do_not_show_what_was_written_end_the_first_run_with_one_error(
    proxy: Proxy, tmp_path: Path
) -> None:
    video, library = small_video(tmp_path / "a.mp4"), f"s3://{BUCKET}/stale-library"
    proxy.faults.append(Fault("stale", r"GET /archive\?.*list-type=2", times=10**6))
    for _ in range(2):
        said = tempo("index", video, "--library", library, "--json", code=1)
        (reason,) = [line for line in said.err.splitlines() if line.startswith("tempo: ")]
        assert reason.startswith(f"tempo: {library}/tables: the store does not list the table '")
        assert "its listings show an earlier time" in reason
        assert reason.endswith("switch the cache off or choose another store, then run again; nothing is lost")
    proxy.faults.clear()
    assert indexed(str(video), library) == {"a.mp4": "indexed"}
    assert tempo("verify", "--library", library, "--json").json[0]["ok"]
