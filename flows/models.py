"""Which model a command uses, and what is said where a user picks one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flows.embedded import EMBEDDED_ID, EMBEDDED_NOTICE, embedded_folder
from flows.terminal.options import LICENCE_NOTE

if TYPE_CHECKING:
    from tempo_core import Checkpoint
    from tempo_core.checkpoint import ModelIdentity

Say = Callable[[str], None]


def choose_model(option: str | None, library_model: str | None) -> str:
    """--model or TEMPO_MODEL, else the model the library was indexed with, else the embedded one."""
    return option or library_model or EMBEDDED_ID


def load_model(model: str, say: Say) -> Checkpoint:
    """The checkpoint, on the GPU in bfloat16 if there is one, else on the CPU in float32.

    ``say`` gets a line where the user must know something: the licence, or how little the embedded model knows.
    """
    if notice := model_notice(model):
        say(notice)
    return open_model(model)


def open_model(model: str) -> Checkpoint:
    """``load_model`` with nothing said: in a worker, whose driver said it."""
    import torch

    from tempo_core import load_checkpoint

    device, dtype = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    if model != EMBEDDED_ID:
        return load_checkpoint(_absolute(model), device=device, dtype=dtype)
    checkpoint = load_checkpoint(embedded_folder(), device=device, dtype="float32")
    return replace(checkpoint, id=EMBEDDED_ID)  # the package's path would name one machine


def identify_model(model: str) -> ModelIdentity:
    """What ``load_model`` would give, less the model."""
    from tempo_core.checkpoint import identify_checkpoint

    if model != EMBEDDED_ID:
        return identify_checkpoint(_absolute(model))
    return replace(identify_checkpoint(embedded_folder()), id=EMBEDDED_ID)


def model_notice(model: str) -> str | None:
    """What a user of that model has to know."""
    if model == EMBEDDED_ID:
        return EMBEDDED_NOTICE
    return LICENCE_NOTE if "tempo-6b" in model.lower() else None


def _absolute(model: str) -> str:
    """A folder by its whole path: the library remembers it, and the next command may run elsewhere."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model
