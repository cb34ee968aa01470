"""How an engine ends: closed or let go of, at once or with questions under way; and a server that answers slowly."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.chat_server import ChatServer
from serving.engine import Engine
from storage import Library
from tempo_core.errors import EngineClosed
from tempo_core.tempo_checkpoint import TempoCheckpoint
from tests.support.asking import DEADLINE_S, endless_checkpoint, engine_of, gate, small_library
from tests.support.chat_servers import GOOD, Exchange, chat_server
from tests.support.golden_cases import golden_checkpoint
from tests.support.waiting import wait_until

QUESTION = "What color is the square?"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return small_library(tmp_path_factory.mktemp("end"), golden_checkpoint())


@pytest.fixture(scope="module")
def checkpoint() -> TempoCheckpoint:
    return endless_checkpoint()


def test_a_closed_engine_refuses_every_question(library: Library, checkpoint: TempoCheckpoint) -> None:
    for asked_before in (True, False):
        with engine_of(library, checkpoint) as engine:
            if asked_before:
                engine.ask(QUESTION, max_new_tokens=1)
        for ask in (engine.ask, engine.search):
            with pytest.raises(EngineClosed, match="closed"):
                ask(QUESTION)
        engine.close()


def test_closing_ends_the_questions_under_way(
    library: Library, checkpoint: TempoCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(2) as threads, engine_of(library, checkpoint) as engine:
        stream = engine.stream(QUESTION, max_new_tokens=5000)
        next(stream)
        with gate(monkeypatch, checkpoint.compressor, "read_slabs") as device:
            preparing, waiting = (threads.submit(engine.ask, QUESTION) for _ in range(2))
            device.wait_for_arrival()
            closing = threading.Thread(target=engine.close)
            closing.start()
            assert wait_until(lambda: engine._worker._is_closed)
        closing.join(DEADLINE_S)
        for asked in (preparing, waiting):
            assert isinstance(asked.exception(DEADLINE_S), EngineClosed)
        with pytest.raises(EngineClosed, match="before the answer was complete"):
            list(stream)


def test_an_engine_that_nobody_has_any_more_ends_its_thread(library: Library, checkpoint: TempoCheckpoint) -> None:
    engine = Engine(library, checkpoint)
    engine.ask(QUESTION, max_new_tokens=2)
    thread = engine._worker._thread
    assert thread is not None and thread.is_alive()
    del engine
    gc.collect()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_an_engine_that_was_never_asked_has_no_thread(library: Library, checkpoint: TempoCheckpoint) -> None:
    with engine_of(library, checkpoint) as engine:
        assert engine._worker._thread is None


def test_a_server_that_answers_slowly_holds_nobody_else_up(library: Library) -> None:
    released = threading.Event()

    def slow(exchange: Exchange) -> None:
        assert released.wait(DEADLINE_S)
        GOOD(exchange)

    with chat_server(slow, GOOD) as server, ThreadPoolExecutor(1) as threads:
        named = ChatServer(server.url, "tiny", None, lambda _: None)
        with engine_of(library, golden_checkpoint(), server=named) as engine:
            first = threads.submit(engine.ask, QUESTION)
            assert wait_until(lambda: len(server.requests) == 1)
            assert engine.search(QUESTION)
            assert engine.ask(QUESTION).answer == "It opens."
            assert not first.done()
            released.set()
            assert first.result(DEADLINE_S).answer == "It opens."
