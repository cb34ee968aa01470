"""A new library on disk, and a folder of what may be sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import Library, open_library


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(str(tmp_path / "library"), create=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "A.MKV", "notes.txt", "deep/er/c.webm", ".hidden.mp4", "odd [1] name;'.mov"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path
