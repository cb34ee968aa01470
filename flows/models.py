"""Which model a command uses, and what a user who picks one has to know."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from flows.embedded import EMBEDDED_ID, EMBEDDED_NOTICE, embedded_folder
from tempo_core.errors import NotFetched, UsageError
from tempo_core.host import cpu_count
from tempo_core.local_paths import local_path

if TYPE_CHECKING:
    from storage import Library
    from tempo_core import Checkpoint
    from tempo_core.model_identity import ModelIdentity
    from tempo_core.weights import WeightFiles

LICENCE_NOTE = "The published Tempo-6B weights are licensed for non-commercial research only."
MODEL_HELP = (
    "A checkpoint: a folder or a Hugging Face id (Qwen/Qwen3-VL-2B-Instruct, Vision-CAIR/Tempo-6B), or 'embedded'. "
    f"Default: the library's model, else the embedded one, which knows only the demo's drawn world. {LICENCE_NOTE}"
)


def choose_model(option: str | None, library: Library | None) -> str:
    """--model or TEMPO_MODEL, else the model of the library's default videos, else the embedded one."""
    if option:
        return option
    model = library.default_model() if library is not None else None
    return EMBEDDED_ID if model is None else model.model_id


def load_model(model: str, notice: Callable[[str], None], may_fetch: bool = False) -> Checkpoint:
    """``open_model``, after a ``notice`` of what the user has to know of this model."""
    if text := model_notice(model):
        notice(text)
    return open_model(model, may_fetch)


def open_model(model: str, may_fetch: bool = False) -> Checkpoint:
    """The checkpoint, on the GPU in bfloat16 if there is one, else on the CPU in float32.

    ``may_fetch``: the user named it. A library may come from anybody, so what only a library names is not fetched from
    the hub: UsageError that says what to type.
    """
    import torch

    from tempo_core import load_checkpoint

    device, dtype = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cpu_count())  # torch counts the machine's, not those that a container allows
    if model != EMBEDDED_ID:
        with _asked_for(model):
            return load_checkpoint(_absolute(model), device=device, dtype=dtype, may_fetch=may_fetch)
    checkpoint = load_checkpoint(embedded_folder(), device=device, dtype="float32")
    return replace(checkpoint, id=EMBEDDED_ID)  # the package's path would name one machine


def identify_model(model: str, may_fetch: bool = False) -> ModelIdentity:
    """What identifies the checkpoint that ``open_model`` would load, without loading it."""
    from tempo_core.model_identity import identify_checkpoint

    if model != EMBEDDED_ID:
        with _asked_for(model):
            return identify_checkpoint(_absolute(model), may_fetch=may_fetch)
    return replace(identify_checkpoint(embedded_folder()), id=EMBEDDED_ID)


def find_model(model: str) -> tuple[str, WeightFiles]:
    """What kind of model it is, in words, and its files, which are not read. TempoError where it is none that can be
    used, or not all of it is on this machine."""
    from tempo_core.checkpoint_config import require_tokenizer
    from tempo_core.model_identity import family_of, find_folders
    from tempo_core.weights import WeightFiles

    folder, config, base = find_folders(embedded_folder() if model == EMBEDDED_ID else _absolute(model), None, False)
    require_tokenizer(base)
    return family_of(config).name, WeightFiles(folder)


@contextmanager
def _asked_for(model: str) -> Iterator[None]:
    try:
        yield
    except NotFetched as error:
        raise UsageError(
            f"the library's model is {model}, and not all of it is on this machine ({error}); if you trust it, "
            f"give --model {shlex.quote(model)} (or TEMPO_MODEL), and it is fetched"
        ) from error


def model_notice(model: str) -> str | None:
    """What a user of that model has to know: its licence, or how little it knows; None if nothing."""
    if model == EMBEDDED_ID:
        return EMBEDDED_NOTICE
    return LICENCE_NOTE if "tempo-6b" in model.lower() else None


def _absolute(model: str) -> str:
    """A folder by its absolute path: the library records it, and the next command may run elsewhere."""
    folder = local_path(model)
    return str(folder) if folder.is_dir() else model
