"""``tempo index`` under another model or index spec: only what must be is done again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage import ALL_MODELS, VideoRecord, open_library
from tests.support.storage_harness import states_part
from tests.support.tempo_cli import counting_ffmpeg, index, other_model, small_video, statuses, tempo


@pytest.fixture
def archive(archive: Path) -> Path:
    small_video(archive / "talk.mp4", seconds=6)
    return archive


def records(library: Path) -> list[VideoRecord]:
    """Of all models, oldest first."""
    return sorted(open_library(str(library)).videos(ALL_MODELS), key=lambda record: record.indexed_at)


def states_bytes(library: Path, record: VideoRecord) -> bytes:
    return (library / states_part(record).path).read_bytes()


def test_another_model_encodes_the_kept_frames_without_decoding(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ffmpeg, decodes = counting_ffmpeg(tmp_path)
    monkeypatch.setenv("TEMPO_FFMPEG", ffmpeg)
    library, model = tmp_path / "library", other_model(tmp_path / "other", "visual.")
    index(library, archive)
    assert decodes() == 1
    assert statuses(index(library, archive, "--model", model)) == {"talk.mp4": "indexed"}
    assert decodes() == 1
    first, second = records(library)
    assert second.frames_part == first.frames_part
    assert states_bytes(library, second) != states_bytes(library, first)


def test_encoding_kept_frames_equals_encoding_the_file(tmp_path: Path, archive: Path) -> None:
    library, fresh, model = tmp_path / "library", tmp_path / "fresh", other_model(tmp_path / "other", "visual.")
    index(library, archive)
    index(library, archive, "--model", model)
    index(fresh, archive, "--model", model)
    (kept, decoded) = records(library)[1], records(fresh)[0]
    assert kept.fingerprints == decoded.fingerprints
    assert states_bytes(library, kept) == states_bytes(fresh, decoded)
    assert (kept.facts, kept.segment_count, kept.frame_count) == (
        decoded.facts,
        decoded.segment_count,
        decoded.frame_count,
    )


def test_a_change_of_the_text_model_encodes_nothing_again(tmp_path: Path, archive: Path) -> None:
    library, model = tmp_path / "library", other_model(tmp_path / "other", "language_model.")
    index(library, archive)
    assert statuses(index(library, archive, "--model", model)) == {"talk.mp4": "indexed"}
    first, second = records(library)
    assert second.states_part == first.states_part
    assert second.fingerprints.features != first.fingerprints.features


def test_an_unchanged_file_is_not_opened_for_another_model(tmp_path: Path, archive: Path) -> None:
    library, model = tmp_path / "library", other_model(tmp_path / "other", "visual.")
    index(library, archive)
    path = archive / "talk.mp4"
    stat = path.stat()
    path.write_bytes(b"\0" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert statuses(index(library, archive, "--model", model)) == {"talk.mp4": "indexed"}


def test_the_old_model_is_served_until_the_new_one_is_whole(tmp_path: Path, archive: Path) -> None:
    library, model = tmp_path / "library", other_model(tmp_path / "other", "visual.")
    small_video(archive / "second.mp4", seconds=3)
    index(library, archive)
    old = open_library(str(library)).default_fingerprint()
    index(library, archive / "talk.mp4", "--model", model)
    assert open_library(str(library)).default_fingerprint() == old
    index(library, archive / "second.mp4", "--model", model)
    assert open_library(str(library)).default_fingerprint() not in {old, None}


def test_the_library_s_own_model_and_spec_are_used_when_none_is_named(tmp_path: Path, archive: Path) -> None:
    library, model = tmp_path / "library", other_model(tmp_path / "other", "visual.")
    index(library, archive, "--model", model, "--spec", "dense")
    small_video(archive / "second.mp4", seconds=3)
    assert statuses(index(library, archive)) == {"talk.mp4": "unchanged", "second.mp4": "indexed"}
    assert {record.facts.model_id for record in records(library)} == {str(model)}
    assert tempo("ask", "What?", "--library", library, "--json").json[0]["model"] == str(model)


def test_another_index_spec_is_indexed_beside_the_first(tmp_path: Path, archive: Path) -> None:
    library = tmp_path / "library"
    index(library, archive)
    assert statuses(index(library, archive, "--spec", "dense")) == {"talk.mp4": "indexed"}
    assert [record.facts.spec.name for record in records(library)] == ["paper", "dense"]
    assert statuses(index(library, archive, "--spec", "paper")) == {"talk.mp4": "unchanged"}


@pytest.mark.parametrize(("kind", "changed"), [("frames_part", "visual."), ("states_part", "language_model.")])
def test_what_is_kept_but_damaged_is_made_again_from_the_file(
    kind: str, changed: str, tmp_path: Path, archive: Path
) -> None:
    library, fresh, model = tmp_path / "library", tmp_path / "fresh", other_model(tmp_path / "other", changed)
    index(library, archive)
    part = library / getattr(records(library)[0], kind).path
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    assert statuses(index(library, archive, "--model", model)) == {"talk.mp4": "indexed"}
    index(fresh, archive, "--model", model)
    mended, expected = records(library)[1], records(fresh)[0]
    assert states_bytes(library, mended) == states_bytes(fresh, expected)
    assert (library / mended.frames_part.path).read_bytes() == (fresh / expected.frames_part.path).read_bytes()
