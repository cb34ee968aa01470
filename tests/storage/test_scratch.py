"""Scratch folders of many at once: nobody sweeps what another one has just made, or what is not his."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from storage.stores.scratch import drop_scratch, make_scratch


def test_a_folder_that_is_being_made_is_not_swept_by_another_that_begins(tmp_path: Path) -> None:
    """Eight decoders that begin together lost a few folders of a thousand."""

    def made_and_kept(_: int) -> bool:
        folder, lock = make_scratch(tmp_path)
        kept = (folder / ".lock").exists()
        drop_scratch(folder, lock)
        return kept

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(made_and_kept, range(1500)))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_looked_into_is_left_alone(tmp_path: Path) -> None:
    """As another user's folder, here a file of such a name."""
    other = tmp_path / "tempo-scratch-other"
    other.touch()
    drop_scratch(*make_scratch(tmp_path))
    assert list(tmp_path.iterdir()) == [other]
