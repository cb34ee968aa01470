"""What a name of sources stands for on S3: an object, what lies below a prefix, what fits a pattern."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from flows.run.discovery import find_sources
from storage import stat_source
from storage.sources.source_sets import expand
from storage.stores.s3_client import file_system
from tempo_core.errors import SourceError
from tests.support.s3_server import Proxy

pytestmark = pytest.mark.s3
BUCKET = "videos"


def put(*keys: str) -> None:
    for key in keys:
        file_system({}).call_s3("put_object", Bucket=BUCKET, Key=key, Body=key.encode())


def found(name: str) -> list[str]:
    """The keys of what ``name`` stands for in the bucket; each test has a prefix of its own there."""
    return sorted(video.uri.removeprefix(f"s3://{BUCKET}/") for video in expand(f"s3://{BUCKET}/{name}").videos)


def test_prefixes_are_searched_for_videos(proxy: Proxy) -> None:
    videos = ["search/day one/sub/b.MKV", "search/day one/talk.mp4"]
    put(*videos, "search/day one/notes.txt", "search/day one more/c.mp4")
    put("search/day one/")  # the mark of a folder that consoles make
    assert found("search/day one") == found("search/day one/") == videos
    assert found("search/day one/notes.txt") == ["search/day one/notes.txt"]
    assert expand(f"s3://{BUCKET}/search/nothing").empty_reason is not None


def test_a_name_may_be_an_object_and_a_prefix(proxy: Proxy) -> None:
    put("both.mp4", "both.mp4/poster.mp4", "both.mp4.bak/no.mp4")
    assert found("both.mp4") == ["both.mp4", "both.mp4/poster.mp4"]
    assert [video.relative_path for video in expand(f"s3://{BUCKET}/both.mp4").videos] == ["both.mp4", "poster.mp4"]


def test_a_whole_bucket_is_searched(proxy: Proxy) -> None:
    put("whole.mp4", "whole/a.mp4")
    bucket = expand(f"s3://{BUCKET}")
    assert {video.relative_path for video in bucket.videos} >= {"whole.mp4", "whole/a.mp4"}
    assert {video.uri for video in expand(f"s3://{BUCKET}/").videos} == {video.uri for video in bucket.videos}


def test_a_listing_tells_what_a_request_per_object_would(proxy: Proxy) -> None:
    put("listed/a.mp4", "listed/b.mp4")
    videos = expand(f"s3://{BUCKET}/listed/").videos
    assert [video.listed for video in videos] == [stat_source(video.uri) for video in videos]
    proxy.requests.clear()
    assert len(find_sources([f"s3://{BUCKET}/listed/"]).sources) == 2
    assert proxy.count("HEAD") == 0


KEYS = (
    "2026/05/cam1/a.mp4",
    "2026/06/cam1/b.mp4",
    "2026/06/cam1/b.txt",
    "2026/06/cam1/.part.mp4",
    "2026/06/cam1/[x].mp4",
    "2026/06/cam2/c.mp4",
    "2026/.tmp/cam1/d.mp4",
    "2026/cam1.mp4",
    "2026 more/06/cam1/e.mp4",
)


@pytest.mark.parametrize(
    "pattern",
    [
        "2026/*/cam1/*.mp4",
        "2026*/06/cam[12]/?.mp4",
        "2026/**/*.mp4",
        "2026/**",
        "**/cam1/*",
        "2026/06/cam[!1]/*",
        "2026/.tmp/*/*",
        "*/cam1.mp4",
        "2026/06/cam1/[x].mp4",
        "2026/06/cam1/[[]x].mp4",
    ],
)
def test_patterns_find_on_s3_what_they_find_on_a_disk(proxy: Proxy, tmp_path: Path, pattern: str) -> None:
    put(*(f"globbed/{key}" for key in KEYS))
    for key in KEYS:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).touch()
    local = expand(f"{tmp_path}/{pattern}")
    remote = expand(f"s3://{BUCKET}/globbed/{pattern}")
    assert local.videos != ()
    paths = [video.relative_path for video in remote.videos]
    assert sorted(paths) == sorted(video.relative_path for video in local.videos)
    assert [remote.relative_path(video.uri) for video in remote.videos] == paths


def test_a_pattern_lists_only_what_begins_as_it_does(proxy: Proxy) -> None:
    put("begins/cam1/a.mp4")
    proxy.requests.clear()
    assert found("begins/c*/*.mp4") == ["begins/cam1/a.mp4"]
    listings = [unquote(request) for request in proxy.requests if "list-type=2" in request]
    assert listings != []
    assert all("prefix=begins/c" in request for request in listings)


def test_patterns_choose_and_objects_settle_at_once(proxy: Proxy) -> None:
    put("chosen/talk.mp4", "chosen/raw/a.mp4", "chosen/b.mkv")
    chosen = find_sources([f"s3://{BUCKET}/chosen"], include=["*.mp4"], exclude=["raw/"], settle_s=3600.0)
    assert [source.uri for source in chosen.sources] == [f"s3://{BUCKET}/chosen/talk.mp4"]
    assert chosen.unsettled == ()
    assert chosen.covers(f"s3://{BUCKET}/chosen/gone.mp4")
    assert not chosen.covers(f"s3://{BUCKET}/chosen/raw/a.mp4")


def test_a_wrong_pattern_or_bucket_is_told(proxy: Proxy) -> None:
    with pytest.raises(SourceError, match="bucket takes no wildcards"):
        expand("s3://vid*/day one/*.mp4")
    with pytest.raises(SourceError, match=r"s3://no-such-bucket/.*: no such object or bucket"):
        expand("s3://no-such-bucket/*.mp4")
    put("wrong/a.mp4")
    assert expand(f"s3://{BUCKET}/wrong/*.webm").empty_reason is not None


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("/parts/x.mp4", ["/parts/x.mp4"]),
        ("/parts/", ["/parts/x.mp4"]),
        ("/parts", ["/parts/x.mp4"]),
        ("/parts/*.mp4", ["/parts/x.mp4"]),
        ("parts//y.mp4", ["parts//y.mp4"]),
        ("parts//deep//", ["parts//deep//z.mp4"]),
        ("parts/**/*.mp4", ["parts//deep//z.mp4", "parts//y.mp4"]),
        ("parts/", ["parts//deep//z.mp4", "parts//y.mp4"]),
    ],
)
def test_a_key_with_an_empty_part_is_found_by_its_name(proxy: Proxy, name: str, keys: list[str]) -> None:
    put("/parts/x.mp4", "parts//y.mp4", "parts//deep//z.mp4")
    assert found(name) == keys
    for video in expand(f"s3://{BUCKET}/{name}").videos:
        assert stat_source(video.uri) == video.listed


@pytest.mark.parametrize("name", ["odd/a#b?c%20d.mp4", "odd/a b+c&d.mp4", "odd/%2F.mp4", "odd/a?versionId=1.mp4"])
def test_a_key_is_taken_as_it_is_written(proxy: Proxy, name: str) -> None:
    put(name)
    assert found(name) == [name]
    assert name in found("odd/")
    assert stat_source(f"s3://{BUCKET}/{name}").size == len(name)


def test_hidden_keys_are_found_only_where_they_are_named(proxy: Proxy) -> None:
    put("hidden/.tmp/x.mp4", "hidden/y.mp4", "hidden/.z.mp4")
    assert found("hidden") == found("hidden/") == found("hidden/**/*.mp4") == ["hidden/y.mp4"]
    assert found("hidden/.tmp/") == ["hidden/.tmp/x.mp4"]
    assert expand(f"s3://{BUCKET}/hidden").relative_path(f"s3://{BUCKET}/hidden/.tmp/x.mp4") is None


@pytest.mark.parametrize("name", ["s3://", "s3:///x.mp4"])
def test_a_name_without_a_bucket_is_told(name: str) -> None:
    with pytest.raises(SourceError, match="names no bucket"):
        expand(name)


def test_more_objects_than_a_page_holds_are_all_found(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    put(*(f"paged/{number}.mp4" for number in range(5)))
    files = file_system({})
    call = files.call_s3

    def in_small_pages(method: str, **parameters: Any) -> Any:
        return call(method, **parameters, **({"MaxKeys": 2} if method == "list_objects_v2" else {}))

    monkeypatch.setattr(files, "call_s3", in_small_pages)
    assert found("paged/") == [f"paged/{number}.mp4" for number in range(5)]


def test_objects_that_are_no_videos_by_their_names_are_passed_over(proxy: Proxy) -> None:
    put("mixed/a.mp4", "mixed/a.jpg", "mixed/deep/b.ogg", "mixed/README", "mixed/.hidden")
    for name in ("", "**"):
        source_set = expand(f"s3://{BUCKET}/mixed/{name}")
        assert source_set.passed_over == {"a.jpg", "deep/b.ogg", "README"}
        assert [video.relative_path for video in source_set.videos] == ["a.mp4"]
    assert source_set.relative_path(f"s3://{BUCKET}/mixed/deep/b.ogg") is None, "it is there, so it is not gone"
