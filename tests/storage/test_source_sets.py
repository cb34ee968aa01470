"""What a name of sources stands for on a local disk: a file, what lies below a folder, what fits a pattern."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from storage.sources.source_sets import FoundVideo, SourceSet, comparison_key, expand
from tempo_core.errors import SourceError
from tests.support.videos import make_video, run_ffmpeg


def below(source_set: SourceSet) -> list[str]:
    return sorted(video.relative_path for video in source_set.videos)


def test_folders_are_searched_below_for_video_suffixes(folder: Path) -> None:
    source_set = expand(str(folder))
    assert below(source_set) == ["A.MKV", "b.mp4", "deep/er/c.webm", "odd [1] name;'.mov"]
    assert {video.uri for video in source_set.videos} == {f"{folder}/{path}" for path in below(source_set)}
    assert all(video.by_search for video in source_set.videos)


@pytest.mark.parametrize("name", ["notes.txt", "./notes.txt", "odd [1] name;'.mov", ".hidden.mp4"])
def test_a_file_is_taken_whatever_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(folder)
    path = folder / name
    for given in (name, path.as_uri()):
        assert expand(given).videos == (FoundVideo(str(path), path.name, by_search=False),)


def test_patterns_find_videos_at_any_depth(folder: Path) -> None:
    (folder / "deep.mp4").mkdir()
    assert below(expand(f"{folder}/**/*.webm")) == ["deep/er/c.webm"]
    assert below(expand(f"{folder}/*.mp4")) == ["b.mp4"]
    assert below(expand(f"{folder}/deep/*/*")) == ["er/c.webm"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nothing.mp4", "no such file or folder"), ("*.ogv", "no video there"), ("*.txt", "no video there")],
)
def test_a_name_that_fits_nothing_says_so(folder: Path, name: str, reason: str) -> None:
    source_set = expand(str(folder / name))
    assert source_set.videos == ()
    assert source_set.empty_reason is not None and source_set.empty_reason.startswith(f"{folder}/{name}: {reason}")


@pytest.mark.parametrize("name", ["", "  ", "file://"])
def test_an_empty_name_is_a_slip_and_not_the_current_folder(name: str) -> None:
    with pytest.raises(SourceError, match=r"names no file and no folder; write \. for the current folder"):
        expand(name)


def test_an_empty_folder_is_no_slip(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert (expand(str(folder / "empty")).videos, expand(str(folder / "empty")).empty_reason) == ((), None)


@pytest.mark.parametrize("pattern", ["", "/**", "/**/*.*"])
def test_a_folder_that_cannot_be_searched_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, pattern: str
) -> None:
    real = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("deep/"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)  # who runs the tests may be root, whom no folder refuses
    source_set = expand(f"{folder}{pattern}")
    assert below(source_set) == ["A.MKV", "b.mp4", "odd [1] name;'.mov"]
    assert source_set.unreadable == (f"{folder}/deep/",)
    assert source_set.relative_path(f"{folder}/deep/er/c.webm") is None, "nobody knows whether it is gone"
    assert "cannot be searched" in caplog.text


def test_what_cannot_be_looked_at_is_not_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def refuse(path: Any, **options: Any) -> os.stat_result:
        if "deep" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    for name in (f"{folder}/deep/er/c.webm", f"{folder}/deep/er", f"{folder}/deep/er/*.webm"):
        source_set = expand(name)
        assert source_set.relative_path(f"{folder}/deep/er/c.webm") is None
        assert source_set.empty_reason is not None
        assert "Permission denied" in source_set.empty_reason or "cannot be searched" in source_set.empty_reason


@pytest.mark.parametrize("pattern", ["", "/**/*.mp4", "/**", "/*/*.mp4"])
def test_hidden_folders_are_searched_only_where_they_are_named(folder: Path, pattern: str) -> None:
    for hidden in (".Trash-1000/files", ".stversions", "deep/.snapshot/daily"):
        (folder / hidden).mkdir(parents=True)
        (folder / hidden / "x.mp4").touch()
    source_set = expand(f"{folder}{pattern}")
    assert not any("x.mp4" in path for path in below(source_set))
    assert source_set.relative_path(f"{folder}/.stversions/x.mp4") is None, "not asked for, so it is not gone"
    assert below(expand(f"{folder}/.stversions{pattern.replace('/*/', '/')}")) == ["x.mp4"]
    assert below(expand(f"{folder}/.Trash*/files/*.mp4")) == [".Trash-1000/files/x.mp4"]


@pytest.mark.parametrize("pattern", ["", "/**/*", "/*/*.mkv"])
def test_a_linked_folder_is_searched_by_its_link(tmp_path: Path, pattern: str) -> None:
    for name in ("disk/x.mkv", "a/sub/y.mkv"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "a/linked").symlink_to("../disk")
    source_set = expand(f"{tmp_path}/a{pattern}")
    assert {video.uri for video in source_set.videos} == {f"{tmp_path}/a/linked/x.mkv", f"{tmp_path}/a/sub/y.mkv"}


@pytest.mark.parametrize("pattern", ["", "/**/*.mp4", "/**"])
def test_a_file_is_one_video_however_many_links_lead_to_its_folder(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "a/sub").mkdir(parents=True)
    (tmp_path / "a/sub/x.mp4").touch()
    (tmp_path / "outside.mp4").touch()
    links = {"again": ".", "twice": ".", "up": "..", "alias": "sub", "sub/back": "../."}
    for name, target in links.items():
        (tmp_path / "a" / name).symlink_to(target)
    (tmp_path / "a/self.mp4").symlink_to("self.mp4")
    assert below(expand(f"{tmp_path}/a{pattern}")) == ["self.mp4", "sub/x.mp4"]
    assert below(expand(f"{tmp_path}/a/again{pattern}")) == ["self.mp4", "sub/x.mp4"], "named itself"


@pytest.mark.parametrize("spelling", ["{0}/deep/er/../../b.mp4", "/{0}/b.mp4", "{0}//./b.mp4", "../{1}/b.mp4", "b.mp4"])
def test_a_file_has_one_uri_however_its_path_is_spelled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    monkeypatch.chdir(folder)
    name = spelling.format(folder, folder.name)
    (video,) = expand(name).videos
    assert video.uri == f"{folder}/b.mp4"
    assert expand(name.removesuffix("b.mp4") or ".").root == f"{folder}/"
    assert comparison_key(str((folder / name).absolute())) == f"{folder}/b.mp4", "as an earlier version recorded it"


def test_what_is_above_a_link_is_above_its_target(tmp_path: Path) -> None:
    (tmp_path / "far/sub").mkdir(parents=True)
    (tmp_path / "far/x.mp4").touch()
    (tmp_path / "link").symlink_to("far/sub")
    (video,) = expand(f"{tmp_path}/link/../x.mp4").videos
    assert video.uri == f"{tmp_path}/far/x.mp4"


def test_a_name_with_a_tilde_is_a_file_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", f"{tmp_path}/home")
    for name in ("~clip.mp4", "~/x.mp4", "home/y.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [video.uri for video in expand("~clip.mp4").videos] == [f"{tmp_path}/~clip.mp4"]
    assert [video.uri for video in expand("~clip*").videos] == [f"{tmp_path}/~clip.mp4"]
    assert [video.uri for video in expand("~/x.mp4").videos] == [f"{tmp_path}/~/x.mp4"]
    (tmp_path / "~/x.mp4").unlink()
    (tmp_path / "~").rmdir()
    assert [video.uri for video in expand("~/y.mp4").videos] == [f"{tmp_path}/home/y.mp4"]


def test_what_is_neither_a_file_nor_a_folder_says_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.mp4")
    assert "neither a file nor a folder" in str(expand(f"{tmp_path}/x.mp4").empty_reason)
    assert "no such file" in str(expand("a\0b").empty_reason)


def test_a_place_tells_what_it_stands_for_there_or_not(folder: Path) -> None:
    """What is found now is in the set, and so is what would be."""
    for name in (str(folder), f"{folder}/**/*.webm", f"{folder}/b.mp4", f"{folder}/nothing.mp4", f"{folder}/*.ogv"):
        source_set = expand(name)
        assert [source_set.relative_path(comparison_key(video.uri)) for video in source_set.videos] == [
            video.relative_path for video in source_set.videos
        ]
    assert expand(f"{folder}/*.ogv").relative_path(f"{folder}/gone.ogv") == "gone.ogv"
    assert expand(f"{folder}/nothing.mp4").relative_path(f"{folder}/nothing.mp4") == "nothing.mp4"
    assert expand(f"{folder}/nothing").relative_path(f"{folder}/nothing/a.mp4") == "a.mp4", "a folder that is gone"
    assert expand(str(folder)).relative_path(f"{folder}/gone/x.mp4") == "gone/x.mp4"
    for other in (f"{folder}x/a.mp4", f"{folder}/x.txt", f"{folder}/.x.mp4", "s3://bucket/a.mp4"):
        assert expand(str(folder)).relative_path(other) is None


def test_a_name_that_is_no_text_has_one_key(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.touch()
    (video,) = expand(str(tmp_path)).videos
    assert (video.uri, comparison_key(video.uri)) == (path.as_uri(), str(path))
    assert expand(video.uri).videos[0].uri == video.uri


# --- what is no video ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["", "/**/*"])
def test_what_is_found_and_not_taken_is_listed(folder: Path, pattern: str) -> None:
    (folder / "deep/README").touch()
    source_set = expand(f"{folder}{pattern}")
    assert source_set.passed_over == {"notes.txt", "deep/README"}


def test_gif_and_ogg_are_taken_where_they_hold_moving_pictures(tmp_path: Path) -> None:
    make_video(
        tmp_path / "moving.gif", codec="gif", pix_fmt="pal8", filters="split[a][b];[a]palettegen[p];[b][p]paletteuse"
    )
    make_video(tmp_path / "moving.ogg", codec="libvpx")
    Image.new("P", (32, 32)).save(tmp_path / "still.gif")
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", str(tmp_path / "sound.ogg"))
    os.mkfifo(tmp_path / "pipe.gif")
    source_set = expand(str(tmp_path))
    assert below(source_set) == ["moving.gif", "moving.ogg"]
    assert source_set.passed_over == {"still.gif", "sound.ogg", "pipe.gif"}
    assert source_set.relative_path(f"{tmp_path}/gone.ogg") == "gone.ogg"
    assert source_set.relative_path(f"{tmp_path}/sound.ogg") is None, "it is there, so it is not gone"
