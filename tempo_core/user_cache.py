"""What can be made again and is kept in the user's cache folder, so that it is not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Where tempo keeps what it can make again: in XDG_CACHE_HOME, else in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tempo"


def recall(name: str, key: str) -> Any:
    """What was remembered under ``key`` in the file ``name``; None if nothing was, or it cannot be read."""
    return _known(cache_folder() / name).get(key)


def remember(name: str, key: str, value: Any) -> None:
    """Keep a JSON value. A cache that cannot be written costs time, not the answer."""
    file = cache_folder() / name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({**_known(file), key: value}))
        partial.replace(file)
    except OSError:
        return


def _known(file: Path) -> dict[str, Any]:
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
