"""What there is to index: names, lists of names, patterns, and files that are still being written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.run.discovery import Discovered, expect_something, find_sources
from storage import Source, open_library
from tempo_core.errors import SourceError
from tests.support.storage_harness import put

LONG_AGO_S = 3600.0
SETTLE_S = 10.0


@pytest.fixture
def archive(archive: Path) -> Path:
    for name in ("a.mp4", "B.MKV", "cam1/a.mp4", "cam1/raw/c.mp4", "cam2/a.mp4", "cam2/notes.txt"):
        write(archive / name)
    return archive


def write(path: Path, age_s: float = LONG_AGO_S) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"video")
    moment = time.time() - age_s
    os.utime(path, (moment, moment))
    return path


def below(found: Discovered, folder: Path) -> list[str]:
    return [str(Path(source.uri).relative_to(folder)) for source in found.sources]


def reasons(found: Discovered) -> dict[str, str]:
    return {Path(one.source.uri).name: one.reason for one in found.unsettled}


# --- names and lists of names ----------------------------------------------------------------------------------------


def test_sources_are_ordered_and_once_each(archive: Path) -> None:
    found = find_sources([str(archive / "cam1"), str(archive), str(archive / "cam1/a.mp4")])
    assert below(found, archive) == ["B.MKV", "a.mp4", "cam1/a.mp4", "cam1/raw/c.mp4", "cam2/a.mp4"]
    assert found.sources[1] == Source(f"{archive}/a.mp4", 5, str((archive / "a.mp4").stat().st_mtime_ns))


def test_a_list_names_one_source_a_line(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = write(archive / "@odd # name .mp4")
    lines = [
        "\N{ZERO WIDTH NO-BREAK SPACE}# the night of 1 May",
        "",
        "cam1",
        f"{archive}/cam2/*.mp4\r",
        f"./{odd.name}",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    monkeypatch.chdir(archive)
    assert below(find_sources([f"@{tmp_path}/list.txt"]), archive) == [
        odd.name,
        "cam1/a.mp4",
        "cam1/raw/c.mp4",
        "cam2/a.mp4",
    ]
    assert below(find_sources([f"@{tmp_path}/list.txt", "a.mp4"]), archive)[1] == "a.mp4"


def test_a_list_may_name_files_whose_names_are_no_text(archive: Path, tmp_path: Path) -> None:
    odd = write(archive / os.fsdecode(b"caf\xe9.mp4"))
    (tmp_path / "list.txt").write_bytes(os.fsencode(odd))
    assert [source.uri for source in find_sources([f"@{tmp_path}/list.txt"]).sources] == [odd.as_uri()]


@pytest.mark.parametrize(
    ("line", "reason"),
    [("nothing.mp4", "no such file or folder"), ("*.webm", "no video there"), ("@more.txt", "cannot name another")],
)
def test_a_wrong_line_is_told_with_its_list_and_number(archive: Path, line: str, reason: str) -> None:
    lines = archive / "list.txt"
    lines.write_text(f"# a comment\n{archive}/a.mp4\n{line}\n")
    with pytest.raises(SourceError, match=rf"list\.txt, line 3: .*{reason}"):
        expect_something(find_sources([f"@{lines}"]), None, [f"@{lines}"])


def test_a_list_that_cannot_be_read_is_told(archive: Path) -> None:
    with pytest.raises(SourceError, match=r"@.*/none\.txt: this list of sources cannot be read: No such file"):
        find_sources([f"@{archive}/none.txt"])


def test_an_empty_list_asks_for_nothing(archive: Path) -> None:
    (archive / "list.txt").write_text("# nothing new tonight\n")
    found = find_sources([f"@{archive}/list.txt"])
    expect_something(found, None, [f"@{archive}/list.txt"])
    assert found.sources == ()


# --- include and exclude ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.mp4"], [], ["a.mp4", "cam1/a.mp4", "cam1/raw/c.mp4", "cam2/a.mp4"]),
        (["/cam*/a.mp4"], [], ["cam1/a.mp4", "cam2/a.mp4"]),
        ([], ["raw"], ["B.MKV", "a.mp4", "cam1/a.mp4", "cam2/a.mp4"]),
        (["cam1", "cam2"], ["raw/", "cam2/a.*"], ["cam1/a.mp4"]),
        (["*.mkv"], [], []),
    ],
)
def test_patterns_choose_below_the_named_folder(
    archive: Path, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    assert below(find_sources([str(archive)], include, exclude), archive) == expected


def test_patterns_count_from_the_folder_before_a_wildcard(archive: Path) -> None:
    assert below(find_sources([f"{archive}/cam*/**/*.mp4"], exclude=["/cam1"]), archive) == ["cam2/a.mp4"]
    assert below(find_sources([f"{archive}/cam1"], exclude=["/cam1"]), archive) == ["cam1/a.mp4", "cam1/raw/c.mp4"]


def test_patterns_hold_for_files_that_a_shell_has_named(archive: Path) -> None:
    named = [f"{archive}/a.mp4", f"{archive}/B.MKV"]
    assert below(find_sources(named, exclude=["*.MKV"]), archive) == ["a.mp4"]
    with pytest.raises(SourceError, match="leave none of the videos there"):
        expect_something(find_sources(named, exclude=["*"]), None, named)


def test_what_one_name_excludes_another_may_name(archive: Path) -> None:
    found = find_sources([str(archive), str(archive / "cam1")], exclude=["/cam1"])
    assert below(found, archive) == ["B.MKV", "a.mp4", "cam1/a.mp4", "cam1/raw/c.mp4", "cam2/a.mp4"]


# --- what was asked for, there or not --------------------------------------------------------------------------------


def test_what_would_be_found_is_covered(archive: Path) -> None:
    found = find_sources([f"{archive}/cam1", f"{archive}/a.mp4", f"{archive}/cam2/*.mp4"], exclude=["raw", "x.*"])
    for covered in ("cam1/gone.mp4", "cam1/deep/gone.mkv", "a.mp4", "cam2/gone.mp4"):
        assert found.covers(f"{archive}/{covered}"), covered
    for other in (
        "b.mp4",
        "a.mp4.mkv",
        "cam1/raw/c.mp4",
        "cam1/x.mp4",
        "cam1/notes.txt",
        "cam10/a.mp4",
        "cam2/d/a.mp4",
    ):
        assert not found.covers(f"{archive}/{other}"), other
    assert found.covers((archive / "cam1" / os.fsdecode(b"caf\xe9.mp4")).as_uri())


def test_below_a_folder_that_cannot_be_read_nothing_is_known(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("cam1/"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # who runs the tests may be root, whom no folder refuses
    found = find_sources([str(archive)])
    assert not found.covers(f"{archive}/cam1/a.mp4")
    assert found.covers(f"{archive}/cam2/a.mp4")


def test_a_name_that_fits_nothing_is_told_unless_the_library_knows_it(archive: Path, tmp_path: Path) -> None:
    names = [str(archive / "old.mp4"), str(archive / "a.mp4")]
    library = open_library(str(tmp_path / "library"), create=True)
    with pytest.raises(SourceError, match=r"old\.mp4: no such file or folder"):
        expect_something(find_sources(names), library, names)
    with library.writer() as writer:
        put(library, writer, names[0], seed=1)
    expect_something(find_sources(names), library, names)
    expect_something(find_sources([f"{archive}/ol*.mp4"]), library, [f"{archive}/ol*.mp4"])
    with pytest.raises(SourceError, match=r"older\.mp4: no such file or folder"):
        expect_something(find_sources([f"{archive}/older.mp4"]), library, [f"{archive}/older.mp4"])


def test_a_place_without_any_video_is_a_slip(archive: Path) -> None:
    (archive / "empty").mkdir()
    names = [str(archive / "empty")]
    with pytest.raises(SourceError, match="no video there"):
        expect_something(find_sources(names), None, names)
    write(archive / "empty/new.mp4", age_s=0)
    expect_something(find_sources(names), None, names)


# --- files that are still being written ------------------------------------------------------------------------------


def test_a_young_file_waits_and_says_how_young_it_is(archive: Path) -> None:
    young = write(archive / "cam1/new.mp4", age_s=SETTLE_S - 4)
    write(archive / "cam1/older.mp4", age_s=SETTLE_S + 1)
    found = find_sources([str(archive)], settle_s=SETTLE_S)
    assert reasons(found) == {"new.mp4": "still being written: changed 6 s ago"}
    assert str(young) not in [source.uri for source in found.sources]
    assert f"{archive}/cam1/older.mp4" in [source.uri for source in found.sources]
    assert reasons(find_sources([f"{archive}/cam1/*.mp4"], settle_s=SETTLE_S)).keys() == {"new.mp4"}


def test_a_file_that_is_named_is_taken_at_once(archive: Path, tmp_path: Path) -> None:
    young = write(archive / "cam1/new.mp4", age_s=0)
    (tmp_path / "list.txt").write_text(str(young))
    for names in ([str(young)], [str(archive), str(young)], [str(young), str(archive)], [f"@{tmp_path}/list.txt"]):
        found = find_sources(names, settle_s=SETTLE_S)
        assert (reasons(found), str(young) in [source.uri for source in found.sources]) == ({}, True)


def test_the_settle_time_is_a_choice(archive: Path) -> None:
    write(archive / "new.mp4", age_s=3)
    assert reasons(find_sources([str(archive)], settle_s=2.0)) == {}
    assert reasons(find_sources([str(archive)], settle_s=60.0)).keys() == {"new.mp4"}
    write(archive / "now.mp4", age_s=0)
    assert reasons(find_sources([str(archive)], settle_s=0.0)) == {}


def test_a_time_to_come_is_settled(archive: Path) -> None:
    """Of a clock that is ahead: waiting for it could take for ever."""
    write(archive / "ahead.mp4", age_s=-300)
    found = find_sources([str(archive)], settle_s=SETTLE_S)
    assert (reasons(found), f"{archive}/ahead.mp4" in [source.uri for source in found.sources]) == ({}, True)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def grow_with_old_time(path: Path) -> None:
    before = path.stat()
    grow(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch(path: Path) -> None:
    os.utime(path, (0, 0))


@pytest.mark.parametrize("change", [grow, grow_with_old_time, touch, Path.unlink])
def test_a_file_that_changes_while_it_is_looked_at_waits(
    archive: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    monkeypatch.setattr("flows.run.discovery.time.sleep", lambda seconds: change(archive / "cam1/a.mp4"))
    found = find_sources([str(archive)], settle_s=SETTLE_S)
    assert [(one.source.uri, one.reason) for one in found.unsettled] == [
        (f"{archive}/cam1/a.mp4", "still being written: it changed while it was examined")
    ]
    assert f"{archive}/cam1/a.mp4" not in [source.uri for source in found.sources]


def test_a_link_to_nothing_is_kept_for_its_reason_to_be_told(archive: Path) -> None:
    (archive / "link.mp4").symlink_to(archive / "nothing.mp4")
    found = find_sources([str(archive)], settle_s=SETTLE_S)
    assert Source(f"{archive}/link.mp4", 0, "") in found.sources
    assert found.unsettled == ()
