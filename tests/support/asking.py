"""Questions asked at once: small libraries to ask about, and gates at which a thread waits until a test lets it on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from serving.engine import Engine
from serving.selection import Scope
from storage import Library, open_library
from tempo_core.answerer import Answerer
from tempo_core.checkpoint_parts import Checkpoint
from tempo_core.spec import PAPER
from tempo_core.tempo_checkpoint import TempoCheckpoint
from tests.support.golden_cases import golden_checkpoint
from tests.support.libraries import add_video

DEADLINE_S = 120.0  # of everything that is waited for
PLAIN = replace(PAPER, name="plain", state_dtype="float32")
Result = TypeVar("Result")


def small_library(folder: Path, checkpoint: Checkpoint) -> Library:
    """Two videos, of nine and six segments."""
    library = open_library(str(folder / "library"), create=True)
    add_video(library, checkpoint, "lecture", seconds=36, spec=PLAIN)
    add_video(library, checkpoint, "storm", seconds=22, spec=PLAIN)
    return library


def scope_of(library: Library, *titles: str) -> Scope:
    return Scope(videos=tuple(library.videos(select=titles)))


def endless_checkpoint() -> TempoCheckpoint:
    """The golden one, whose answers are as long as is asked for."""
    golden = golden_checkpoint()
    parts = (golden.reader._llm, golden.reader._projector, golden.reader._prompts)
    return replace(golden, reader=Answerer(*parts, golden.reader.context_tokens, stop_ids=frozenset()))


@contextmanager
def engine_of(library: Library, checkpoint: Checkpoint, **bounds: Any) -> Iterator[Engine]:
    """One whose thread is gone afterwards."""
    with Engine(library, checkpoint, **bounds) as engine:
        yield engine
    thread = engine._worker._thread
    assert thread is None or not thread.is_alive()


def at_once(asks: Sequence[Callable[[], Result]]) -> list[Result]:
    """The results of all, each asked by a thread of its own."""
    with ThreadPoolExecutor(len(asks)) as threads:
        return [asked.result(DEADLINE_S) for asked in [threads.submit(ask) for ask in asks]]


@dataclass
class Gate:
    """What calls a method waits here until the test lets it through; ``arrived`` is set when one does."""

    arrived: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        self.arrived.set()
        assert self.opened.wait(DEADLINE_S)

    def wait_for_arrival(self) -> None:
        assert self.arrived.wait(DEADLINE_S)


@contextmanager
def gate(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, on_arrival: Callable[[], None] = lambda: None
) -> Iterator[Gate]:
    """Before each call of a method; open at the end, whatever happens."""
    real, found = getattr(owner, name), Gate()

    def waited(*args: Any, **kwargs: Any) -> Any:
        if not found.arrived.is_set():
            on_arrival()
        found.wait()
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, waited)
    try:
        yield found
    finally:
        found.opened.set()
