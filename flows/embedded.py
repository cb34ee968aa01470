"""The embedded model: tempo-nano, trained from scratch on a small world of drawn things (``nano``)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from nano.sizes import BASE, TEMPO
from tempo_core.errors import CheckpointError

EMBEDDED_ID = "embedded"
EMBEDDED_NOTICE = (
    "The embedded model knows nothing but its own small world of drawn things (tempo demo); of real video its answers "
    "and its relevance mean nothing. Choose a model for that with --model."
)


def embedded_folder() -> Path:
    """The embedded checkpoint's folder. CheckpointError where the package came without it."""
    folder = Path(str(files("nano"))) / "weights" / TEMPO
    if not all((part / "config.json").is_file() for part in (folder, folder.with_name(BASE))):
        raise CheckpointError(f"the embedded model is missing at {folder}: install the package again")
    return folder
