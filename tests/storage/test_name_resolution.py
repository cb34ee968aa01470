"""What users name videos by: found among the catalog's columns, as a search of all its records would find them."""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from storage import ALL_MODELS, Library, VideoRecord, open_library
from storage.catalog import Catalog
from storage.schemas import CATALOG
from tempo_core.errors import UsageError
from tests.support.storage_harness import (
    PRINTS,
    commit,
    facts_of,
    prints_of,
    put,
    source_of,
    stage,
    tiny_video,
    video_id,
)

URIS = [
    "/archive/talk.mp4",
    "/archive/part.one.mkv",
    "/archive/it's 100% _new_.mov",
    "/archive/Größe 🎬.mp4",
    "/archive/.hidden",
    "/archive/no suffix",
    "s3://bucket/clips/clip.webm",
    "s3://bucket/clips/trailing/",
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = open_library(str(tmp_path_factory.mktemp("names") / "library"), create=True)
    with library.writer() as writer:
        for seed, uri in enumerate(URIS):
            put(library, writer, uri, seed)
        put(library, writer, "/copies/other.mp4", 0)  # a copy of the first
        put(library, writer, "/archive/sub/talk.mp4", 99)
    return library


def fits(record: VideoRecord, name: str) -> bool:
    file = PurePosixPath(record.uri)
    return (len(name) >= 6 and record.video_id.startswith(name)) or name in {record.title, file.name, file.stem}


@pytest.mark.parametrize("position", range(1, len(URIS)))
def test_a_video_is_named_by_its_file_with_and_without_suffix_its_uri_or_its_id(
    library: Library, position: int
) -> None:
    records, uri = library.videos(), URIS[position]
    file = PurePosixPath(uri)
    for name in (uri, file.name, file.stem, video_id(position), video_id(position)[:6], video_id(position)[:40]):
        selected = library.videos(ALL_MODELS, [name])
        assert [record.uri for record in selected] == [uri]
        assert name == uri or selected == [record for record in records if fits(record, name)]


def test_a_uri_means_one_source_and_an_id_all_copies(library: Library) -> None:
    assert [record.uri for record in library.videos(select=["/archive/talk.mp4"])] == ["/archive/talk.mp4"]
    copies = library.videos(select=[video_id(0)[:8], "/archive/talk.mp4"])
    assert [record.uri for record in copies] == ["/archive/talk.mp4", "/copies/other.mp4"]


@pytest.mark.parametrize("name", ["talk.mp4", "talk"])
def test_a_name_of_different_videos_is_refused(library: Library, name: str) -> None:
    with pytest.raises(UsageError, match="fits several videos"):
        library.videos(select=[name])


NOTHING = ["", "%", "_new_", "archive", "mp4", ".mp4", video_id(3)[:5], "f" * 64, "a' OR 'a' = 'a"]


@pytest.mark.parametrize("name", NOTHING)
def test_a_name_that_fits_nothing_is_refused(library: Library, name: str) -> None:
    assert not any(fits(record, name) for record in library.videos())
    with pytest.raises(UsageError, match="no video"):
        library.videos(select=[name])


def meant(records: list[VideoRecord], name: str) -> list[str]:
    """The URIs that one name means, by going through all records; none where it fits nothing, or different videos."""
    matching = [record for record in records if record.uri == name] or [one for one in records if fits(one, name)]
    return [record.uri for record in matching] if len({record.video_id for record in matching}) == 1 else []


@pytest.mark.parametrize("trial", range(20))
def test_names_given_together_mean_what_each_means_among_all_records(library: Library, trial: int) -> None:
    records, rng = library.videos(), np.random.default_rng(trial)
    lengths = [int(length) for length in rng.integers(6, 65, 3)]
    possible = [name for uri in URIS for name in (uri, PurePosixPath(uri).name, PurePosixPath(uri).stem)]
    possible += [video_id(seed)[:length] for seed in (0, 3, 99) for length in lengths]
    if trial % 4 == 0:
        possible += NOTHING
    names = [str(name) for name in rng.choice(possible, int(rng.integers(1, 12)))]
    expected = [meant(records, name) for name in names]
    if all(expected):
        assert [record.uri for record in library.videos(select=names)] == list(
            dict.fromkeys(chain.from_iterable(expected))
        )
    else:
        with pytest.raises(UsageError, match=re.escape(repr(names[expected.index([])]))):
            library.videos(select=names)


def test_a_video_committed_again_between_the_two_look_ups_is_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = open_library(str(tmp_path / "library"), create=True)
    names = Catalog.names

    def replacing(catalog: Catalog) -> Any:
        monkeypatch.setattr(Catalog, "names", names)
        seen = names(catalog)
        put(library, writer, "/one.mp4", 1)
        return seen

    with library.writer() as writer:
        first = put(library, writer, "/one.mp4", 1)
        monkeypatch.setattr(Catalog, "names", replacing)
        (record,) = library.videos(select=["one"])
    assert record.uri == "/one.mp4" and record.generation != first.generation


def test_a_name_is_looked_for_in_one_model_or_in_all(tmp_path: Path) -> None:
    library = open_library(str(tmp_path / "library"), create=True)
    other, video = prints_of(text="another"), tiny_video(1)
    with library.writer() as writer:
        put(library, writer, "/one.mp4", 1)
        commit(writer, stage(library, video, other), source_of("/one.mp4", 1), facts_of(video))
    for name in ("one", "/one.mp4", video.video_id[:12]):
        assert {one.fingerprints for one in library.videos(ALL_MODELS, [name])} == {PRINTS, other}
        assert [one.fingerprints for one in library.videos(other.features, [name])] == [other]
        assert [one.fingerprints for one in library.videos(select=[name])] == [PRINTS]


def test_many_names_are_two_look_ups_and_read_only_what_they_name(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    rows = library.tables.rows

    def noting(name: str, *given: Any) -> Any:
        answer = rows(name, *given)
        read.append([row["uri"] for row in answer if name == CATALOG])
        return answer

    monkeypatch.setattr(library.tables, "rows", noting)
    library.videos(PRINTS.features, ["no suffix", URIS[3], video_id(6)])
    assert [sorted(uris) for uris in read] == [[URIS[3]], ["/archive/no suffix", "s3://bucket/clips/clip.webm"]]


def test_a_name_that_is_no_text_is_looked_up_by_its_escaped_uri_alone(library: Library) -> None:
    with pytest.raises(UsageError, match="no video"):
        library.videos(select=[os.fsdecode(b"caf\xe9.mp4")])
