"""What a library's address may be: refused before anything is made in its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import open_library
from storage.stores import check_location
from tempo_core.errors import UsageError


@pytest.mark.parametrize(
    "location",
    [
        *("lib", "./lib", "/data/a lib", "a:b/lib", "file:///data/lib"),
        *("s3://bucket/prefix", "s3://bucket/a/b/", "s3://bucket/a b#?%/.c"),
    ],
)
def test_folders_and_prefixes_are_addresses(location: str) -> None:
    assert check_location(location) == location


@pytest.mark.parametrize(
    "location",
    [
        *("", "  ", "http://host/lib", "file:/data/lib", "s3:/bucket/lib", "s3://", "s3://bucket", "s3://bucket/"),
        *("s3:///lib", "s3://bucket//lib", "s3://bucket/a//b", "s3://bucket/a/../b", "s3://bucket/.", "lib\udcff"),
    ],
)
def test_anything_else_is_refused_and_made_nowhere(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"is not an address of a library; give a folder, or s3://bucket/prefix"):
        open_library(location, create=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("location", "folder"),
    [("a b/lib", "a b/lib"), ("a b/../lib/", "lib"), ("file://{0}/a%20b/lib%23", "a b/lib#"), ("a%20b", "a%20b")],
)
def test_a_library_on_a_disk_is_where_a_source_of_that_name_would_be(
    location: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    library = open_library(location.format(tmp_path), create=True)
    assert library.uri == f"{tmp_path}/{folder}"
    assert (tmp_path / folder / "library.json").exists()
