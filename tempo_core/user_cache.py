"""Values kept in the user's cache folder because they take long to compute again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tempo_core.local_paths import home_folder


def cache_folder() -> Path | None:
    """The folder ``tempo`` in XDG_CACHE_HOME, else in ~/.cache; None for a user without a home, who has no cache."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "tempo"
    home = home_folder()
    return home / ".cache" / "tempo" if home is not None else None


def recall(name: str, key: str) -> Any:
    """The value remembered under ``key`` in the file ``name``; None if there is none, or it cannot be read."""
    folder = cache_folder()
    return _read(folder / name).get(key) if folder is not None else None


def remember(name: str, key: str, value: Any) -> None:
    """Keep a JSON value. A cache that cannot be written costs time, not the answer."""
    if (folder := cache_folder()) is None:
        return
    file = folder / name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({**_read(file), key: value}))
        partial.replace(file)
    except OSError:
        return


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
