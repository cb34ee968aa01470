"""What tells an embedding model from one that answers: not its config, but sentence-transformers' files beside it.

modules.json              the steps from a text to a vector, one of which is a Pooling, in a folder of its own
1_Pooling/config.json     how the states of all tokens become one: of those used here, the last token's is the vector
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tempo_core.errors import CheckpointError

LAST_TOKEN = "lasttoken"
_MODULES, _MODE = "modules.json", "pooling_mode"


def pooling_of(folder: Path) -> str | None:
    """How the folder's model pools its tokens (``lasttoken``, ``mean``, ...); None where it is no embedding model.

    CheckpointError where the files that say so cannot be read.
    """
    if not (folder / _MODULES).is_file():
        return None
    modules = _read(folder / _MODULES)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{folder / _MODULES}: not a list of modules")
    place = next((module.get("path") for module in modules if str(module.get("type")).endswith(".Pooling")), None)
    if place is None:
        return None
    if not isinstance(place, str) or Path(place).name != place:
        raise CheckpointError(f"{folder / _MODULES}: its Pooling lies in {place!r}, which is no folder's name")
    return _mode(_read(folder / place / "config.json"))


def _mode(config: Any) -> str:
    """``{"pooling_mode": "lasttoken"}``, or before sentence-transformers 5.4 ``{"pooling_mode_lasttoken": true}``."""
    values = config if isinstance(config, dict) else {}
    if _MODE in values:
        return str(values[_MODE])
    chosen = sorted(key for key, value in values.items() if key.startswith(_MODE) and value is True)
    return "+".join(key.removeprefix(f"{_MODE}_") for key in chosen) or "nothing"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from error
