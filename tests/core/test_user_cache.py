"""The user's cache, and users who have none."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from tempo_core.local_paths import home_folder, local_path
from tempo_core.user_cache import cache_folder, recall, remember


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of a container: no HOME, and in no list of users."""

    def unknown(_: object) -> pwd.struct_passwd:
        raise KeyError

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)


def test_what_is_remembered_is_recalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("file", "key", [1])
    assert recall("file", "key") == [1]
    assert (recall("file", "other"), recall("other", "key")) == (None, None)


@pytest.mark.usefixtures("nobody")
def test_a_user_without_a_home_has_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (home_folder(), cache_folder()) == (None, None)
    remember("file", "key", 1)
    assert recall("file", "key") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nobody")
def test_a_tilde_is_a_name_to_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_path("~/x.mp4") == tmp_path / "~/x.mp4"
