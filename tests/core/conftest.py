"""A copy of the golden checkpoint and of its base, to be altered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.altered_checkpoints import Copy, copied


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return copied(tmp_path)
