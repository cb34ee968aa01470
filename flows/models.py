"""Which model a command uses, and what a user who picks one has to know."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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


FEATURES_HELP = (
    "An embedding model that makes the features which segments are found by: a folder or a Hugging Face id "
    "(Qwen/Qwen3-VL-Embedding-2B, beside Qwen/Qwen3-VL-2B-Instruct). Its vision tower must be that of --model: what "
    "was encoded is used as it is. Default: the library's; the name of the model itself: its own features."
)


@dataclass(frozen=True)
class ModelChoice:
    """The names of a model, and of the embedding model that makes its features; None: it makes them itself.

    ``named``: those of the two that the user gave, and that may be fetched from the hub for it. A library may come from
    anybody, so what only a library names is not.
    """

    model: str
    features: str | None = None
    named: frozenset[str] = frozenset()

    @property
    def in_words(self) -> str:
        return self.model if self.features is None else f"{self.model} with features by {self.features}"

    def may_fetch(self, name: str) -> bool:
        return name in self.named


def choose_models(model: str | None, features: str | None, library: Library | None) -> ModelChoice:
    """What the options (or TEMPO_MODEL and TEMPO_FEATURES) name, else what the library is of.

    A model that is named without an embedding model goes with that of the first of the library's models which has its
    states, if they are searched by one.
    """
    default = None if model or library is None else library.default_model()
    chosen = _absolute(model or (EMBEDDED_ID if default is None else default.model_id))
    named = frozenset(_absolute(name) for name in (model, features) if name)
    choice = ModelChoice(chosen, None if default is None else default.features_model, named)
    if features:
        other = _absolute(features)
        return replace(choice, features=None if other == chosen else other)
    if model and library is not None:
        return replace(choice, features=_remembered(choice, library))
    return choice


def _remembered(choice: ModelChoice, library: Library) -> str | None:
    """The embedding model that the library has for the states of a model that was named."""
    identity = identify_model(choice)
    for record in library.models():
        prints = identity.fingerprints(record.spec)
        if prints == record.fingerprints:
            return None
        if record.features_model is not None and prints.states == record.fingerprints.states:
            return record.features_model
    return None


def load_model(choice: ModelChoice, notice: Callable[[str], None]) -> Checkpoint:
    """``open_model``, after a ``notice`` of what the user has to know of this model."""
    if text := model_notice(choice.model):
        notice(text)
    return open_model(choice)


def open_model(choice: ModelChoice) -> Checkpoint:
    """The checkpoint, on the GPU in bfloat16 if there is one, else on the CPU in float32.

    UsageError that says what to type where one would have to be fetched that the user did not name.
    """
    import torch

    from tempo_core import load_checkpoint, with_features

    device, dtype = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cpu_count())  # torch counts the machine's, not those that a container allows
    if choice.model == EMBEDDED_ID:
        checkpoint = load_checkpoint(embedded_folder(), device=device, dtype="float32")
        checkpoint = replace(checkpoint, id=EMBEDDED_ID)  # the package's path would name one machine
    else:
        with _asked_for("model", choice.model):
            checkpoint = load_checkpoint(
                choice.model, device=device, dtype=dtype, may_fetch=choice.may_fetch(choice.model)
            )
    if choice.features is None:
        return checkpoint
    with _asked_for("features", choice.features):
        return with_features(checkpoint, choice.features, may_fetch=choice.may_fetch(choice.features))


def identify_model(choice: ModelChoice) -> ModelIdentity:
    """What identifies the checkpoint that ``open_model`` would load, without loading it."""
    from tempo_core.features_identity import identify_features, joined
    from tempo_core.model_identity import identify_checkpoint

    if choice.model == EMBEDDED_ID:
        identity = replace(identify_checkpoint(embedded_folder()), id=EMBEDDED_ID)
    else:
        with _asked_for("model", choice.model):
            identity = identify_checkpoint(choice.model, may_fetch=choice.may_fetch(choice.model))
    if choice.features is None:
        return identity
    with _asked_for("features", choice.features):
        return joined(identity, identify_features(choice.features, choice.may_fetch(choice.features)))


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
def _asked_for(option: str, name: str) -> Iterator[None]:
    """``option``: what names such a model on the command line."""
    try:
        yield
    except NotFetched as error:
        what = "model" if option == "model" else "features model"
        raise UsageError(
            f"the library's {what} is {name}, and not all of it is on this machine ({error}); if you trust it, "
            f"give --{option} {shlex.quote(name)} (or TEMPO_{option.upper()}), and it is fetched"
        ) from error


def model_notice(model: str) -> str | None:
    """What a user of that model has to know: its licence, or how little it knows; None if nothing."""
    if model == EMBEDDED_ID:
        return EMBEDDED_NOTICE
    return LICENCE_NOTE if "tempo-6b" in model.lower() else None


def _absolute(model: str) -> str:
    """A folder by its absolute path: the library records it, and the next command may run elsewhere."""
    if model == EMBEDDED_ID:
        return model
    folder = local_path(model)
    return str(folder) if folder.is_dir() else model
