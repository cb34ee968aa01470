"""``tempo index`` where videos are no longer: their entries stay until they are removed, and nothing else suffers."""

from __future__ import annotations

from pathlib import Path

from tests.support.tempo_cli import index, small_video, statuses, tempo


def test_a_file_that_is_gone_is_said_and_kept(library: Path, archive: Path) -> None:
    small_video(archive / "a.mp4")
    small_video(archive / "b.mp4", seconds=3)
    index(library, archive)
    (archive / "a.mp4").unlink()
    assert statuses(index(library, archive)) == {"a.mp4": "gone", "b.mp4": "unchanged"}
    assert tempo("status", "--library", library, "--json").json[0]["videos"] == 2


def test_a_folder_whose_videos_are_all_gone_says_so_and_stops_nothing(library: Path, archive: Path) -> None:
    (archive / "old").mkdir()
    small_video(archive / "old" / "a.mp4")
    index(library, archive)
    (archive / "old" / "a.mp4").unlink()
    assert statuses(index(library, archive / "old")) == {"a.mp4": "gone"}
    new = small_video(archive / "new.mp4", seconds=3)
    assert statuses(index(library, archive / "old", new)) == {"a.mp4": "gone", "new.mp4": "indexed"}


def test_folders_that_never_held_a_video_are_a_slip_and_no_library_is_made(library: Path, archive: Path) -> None:
    assert "no video there" in tempo("index", archive, "--library", library, code=1).err
    assert not library.exists()


def test_other_folders_are_not_gone(library: Path, archive: Path, tmp_path: Path) -> None:
    index(library, small_video(tmp_path / "elsewhere.mp4"))
    small_video(archive / "a.mp4", seconds=3)
    assert statuses(index(library, archive)) == {"a.mp4": "indexed"}
