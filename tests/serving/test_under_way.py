"""Questions under way: who passes whom, who is refused, what cancelling frees, and whose an error is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serving.engine import Engine
from storage import Library
from tempo_core.errors import QueueFull
from tempo_core.tempo_checkpoint import TempoCheckpoint
from tests.support.asking import DEADLINE_S, endless_checkpoint, engine_of, gate, scope_of, small_library
from tests.support.golden_cases import golden_checkpoint
from tests.support.waiting import wait_until

QUESTION = "What color is the square?"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return small_library(tmp_path_factory.mktemp("under-way"), golden_checkpoint())


@pytest.fixture(scope="module")
def checkpoint() -> TempoCheckpoint:
    return endless_checkpoint()


@pytest.fixture
def engine(library: Library, checkpoint: TempoCheckpoint) -> Iterator[Engine]:
    with engine_of(library, checkpoint) as opened:
        yield opened


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as opened:
        yield opened


def is_idle(engine: Engine) -> bool:
    """Nobody is known, nobody has a place, nothing is pinned."""
    worker = engine._worker
    assert worker._batch is not None
    return not (worker._scheduler.requests or worker._batch._running or engine._tiers._pins)


# --- who passes whom -------------------------------------------------------------------------------------------------


def test_a_question_about_a_hot_video_does_not_wait_for_a_cold_ones_disk(
    library: Library, engine: Engine, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot, cold = scope_of(library, "lecture.mp4"), scope_of(library, "storm.mp4")
    expected = engine.ask(QUESTION, hot, max_new_tokens=4).answer
    with gate(monkeypatch, library, "read_states") as disk:
        waiting = threads.submit(engine.ask, QUESTION, cold, max_new_tokens=4)
        disk.wait_for_arrival()
        assert threads.submit(engine.ask, QUESTION, hot, max_new_tokens=4).result(DEADLINE_S).answer == expected
        assert not waiting.done()
    assert waiting.result(DEADLINE_S).answer


def test_answers_grow_while_a_question_loads(
    library: Library, engine: Engine, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.ask(QUESTION, scope_of(library, "lecture.mp4"), max_new_tokens=1)
    stream = engine.stream(QUESTION, scope_of(library, "lecture.mp4"), max_new_tokens=40)
    next(stream)
    with gate(monkeypatch, library, "read_states") as disk:
        waiting = threads.submit(engine.ask, QUESTION, scope_of(library, "storm.mp4"), max_new_tokens=1)
        disk.wait_for_arrival()
        assert len(list(stream)) > 5
        assert not waiting.done()


# --- who is refused --------------------------------------------------------------------------------------------------


def test_one_too_many_is_refused_at_once_and_may_ask_again(
    library: Library, checkpoint: TempoCheckpoint, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_of(library, checkpoint, most_waiting=2) as engine:
        with gate(monkeypatch, checkpoint.compressor, "read_slabs") as device:
            asked = [threads.submit(engine.ask, QUESTION, max_new_tokens=2)]
            device.wait_for_arrival()
            asked += [threads.submit(engine.ask, QUESTION, max_new_tokens=2) for _ in range(2)]
            assert wait_until(lambda: len(engine._worker._scheduler.requests) == 3)
            with pytest.raises(QueueFull, match="ask again later"):
                engine.ask(QUESTION)
        assert len({one.result(DEADLINE_S).answer for one in asked}) == 1
        assert engine.ask(QUESTION, max_new_tokens=2).answer == asked[0].result().answer


# --- what cancelling frees -------------------------------------------------------------------------------------------


def test_a_closed_stream_is_in_one_more_step_at_most(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = engine._worker._batch
    assert batch is not None
    kept, left = (engine.stream(QUESTION, max_new_tokens=2000) for _ in range(2))
    next(kept), next(left)
    running: list[int] = []
    real = batch.step

    def step() -> None:
        running.append(len(batch._running))
        real()

    left.close()  # type: ignore[attr-defined]
    monkeypatch.setattr(batch, "step", step)
    assert wait_until(lambda: running.count(1) > 3)
    assert running.count(2) <= 1
    kept.close()  # type: ignore[attr-defined]
    assert wait_until(lambda: is_idle(engine))


@pytest.mark.parametrize("step", ["prefill", "read_slabs", "compress_slabs"])
def test_an_interrupted_caller_leaves_nothing_of_its_question(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with gate(monkeypatch, golden_checkpoint().compressor, step, on_arrival=interrupt_main) as device:
        with pytest.raises(KeyboardInterrupt):
            engine.ask(QUESTION)
        assert device.arrived.is_set()
        assert engine._tiers._pins
    assert wait_until(lambda: is_idle(engine))
    assert engine.ask(QUESTION, max_new_tokens=2).answer


def test_one_interrupted_while_it_loads_does_not_wait_for_the_disk(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gate(monkeypatch, library, "read_states", on_arrival=interrupt_main):
        with pytest.raises(KeyboardInterrupt):
            engine.ask(QUESTION)
        assert wait_until(lambda: is_idle(engine))
    assert engine.ask(QUESTION, max_new_tokens=2).answer


def interrupt_main() -> None:
    """Ctrl-C, while the main thread waits for its answer."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGINT)


# --- whose error it is -----------------------------------------------------------------------------------------------


class Broken(Exception):
    """No error of tempo's own."""


@pytest.mark.parametrize("step", ["prefill", "read_slabs", "compress_slabs"])
def test_an_error_of_a_preparation_is_raised_for_whoever_asked_and_nobody_else(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    compressor, good, bad = golden_checkpoint().compressor, scope_of(library, "lecture.mp4"), "A bad one?"
    expected = engine.ask(QUESTION, good, max_new_tokens=30).answer
    real = getattr(compressor, step)

    def failing(*args: Any) -> Any:
        asked = [one.question for one in args[0]] if step == "compress_slabs" else args
        if bad in asked or step == "prefill":  # only the cold video is prefilled
            raise Broken(step)
        return real(*args)

    stream = engine.stream(QUESTION, good, max_new_tokens=30)
    begin = next(stream)
    monkeypatch.setattr(compressor, step, failing)
    with pytest.raises(Broken, match=step) as raised:
        engine.ask(bad, scope_of(library, "storm.mp4"))
    assert any(entry.name == "failing" for entry in raised.traceback)
    *pieces, _ = stream
    assert str(begin) + "".join(map(str, pieces)) == expected
    assert wait_until(lambda: is_idle(engine))


def test_an_error_of_a_step_ends_the_answers_under_way_and_the_engine_goes_on(
    library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, batch = engine.ask(QUESTION, max_new_tokens=30).answer, engine._worker._batch
    assert batch is not None
    streams = [engine.stream(QUESTION, max_new_tokens=2000) for _ in range(2)]
    for stream in streams:
        next(stream)
    real = batch._one_token

    def failing(*_: Any) -> None:
        monkeypatch.setattr(batch, "_one_token", real)
        raise Broken("step")

    monkeypatch.setattr(batch, "_one_token", failing)
    for stream in streams:
        with pytest.raises(Broken, match="step"):
            list(stream)
    assert engine.ask(QUESTION, max_new_tokens=30).answer == expected


def test_an_error_of_a_search_is_raised_for_whoever_searched(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(question: str) -> Any:
        raise Broken(question)

    monkeypatch.setattr(golden_checkpoint().router, "question_feature", failing)
    with pytest.raises(Broken, match=r"square"):
        engine.search(QUESTION)
    assert engine.ask(QUESTION, max_new_tokens=2).answer
