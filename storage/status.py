"""What ``status`` and ``verify`` tell of a library. Sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass

from tempo_core.fingerprints import Fingerprints
from tempo_core.spec import IndexSpec, Keep


@dataclass(frozen=True)
class Problem:
    """Something ``verify`` found: what it is about (a path or a URI) and what is wrong with it."""

    subject: str
    reason: str


@dataclass(frozen=True)
class ModelStatus:
    """What a library holds of one model and index spec; several sources may share one content.

    ``features_model``: as of a ``ModelRecord``.
    """

    fingerprints: Fingerprints
    model_id: str
    features_model: str | None
    spec: IndexSpec
    is_default: bool
    sources: int
    videos: int
    segments: int
    hours: float
    failures: int


@dataclass(frozen=True)
class LibraryStatus:
    """Sizes by kind in bytes; ``unreferenced_bytes`` is what ``prune`` could free sooner or later.

    ``pending``: sources that the last runs left undone. ``keep``: what runs keep of a video unless they are told;
    ``states_budget``: the bytes of states that the library is brought under, None for no such limit;
    ``without_states``: videos of which only frames are kept under some model.
    """

    uri: str
    schema: int
    models: tuple[ModelStatus, ...]
    videos: int
    hours: float
    frames_bytes: int
    states_bytes: int
    tables_bytes: int
    unreferenced_bytes: int
    fragments: int
    pending: int
    free_bytes: int | None
    keep: Keep
    states_budget: int | None
    without_states: int
