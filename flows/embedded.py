"""The embedded model: a tiny checkpoint of random weights, made on first use in the user's cache folder.

It runs the whole method in seconds on any machine. Its answers mean nothing: no weight of it has been trained.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from nano.sizes import base_config, generation_config, processor_configs, tempo_config
from nano.tokenizer import tokenizer_files
from tempo_core.errors import CheckpointError
from tempo_core.user_cache import cache_folder
from tempo_core.values import FloatArray

EMBEDDED_ID = "embedded"
EMBEDDED_NOTICE = (
    "The embedded model has random weights: it shows that everything works, but its answers and its relevance mean "
    "nothing. Choose a trained model with --model."
)
_VERSION = 2
_BASE, _TEMPO = "embedded-base", "embedded"
_NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja")


def embedded_folder() -> Path:
    """The embedded checkpoint's folder, made first if need be. CheckpointError where it cannot be written."""
    whole = cache_folder() / f"embedded-{_VERSION}"
    if not _complete(whole):
        try:
            _make(whole)
        except OSError as error:
            raise CheckpointError(
                f"cannot write the embedded model to {whole}: {error.strerror}; set XDG_CACHE_HOME to a folder that "
                "can be written, or choose a model with --model"
            ) from error
    return whole / _TEMPO


def write_embedded(folder: Path) -> None:
    """Write the checkpoint and its base beside each other into ``folder``."""
    from flows import embedded_weights as weights

    base, tempo = folder / _BASE, folder / _TEMPO
    _write(base, {"config.json": base_config(weights.SIZES), **processor_configs()}, weights.base_tensors())
    configs = {"config.json": tempo_config(weights.SIZES, _BASE), "generation_config.json": generation_config()}
    _write(tempo, configs, weights.tempo_tensors())


def _complete(whole: Path) -> bool:
    """A cache may be cleared in part, by hand or by a janitor."""
    return all((whole / name / file).is_file() for name in (_BASE, _TEMPO) for file in _NEEDED)


def _make(whole: Path) -> None:
    whole.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".embedded-", dir=whole.parent))
    try:
        write_embedded(part)
        if whole.exists() and not _complete(whole):
            shutil.rmtree(whole)
        part.rename(whole)
    except OSError:
        if not _complete(whole):  # else another process was first, with the same bytes
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(folder: Path, configs: Mapping[str, object], tensors: dict[str, FloatArray]) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    for name, text in tokenizer_files().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    for name, config in configs.items():
        (folder / name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8", newline="\n")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
