"""The thread that owns the device: it prepares questions unit by unit, and every unit is followed by one step of all
answers. So an answer under way stalls by a unit at most, and one that nobody wants any more is gone within a token.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from serving.question import Question
from serving.reading import Prepared, Reading
from serving.scheduler import Bounds, Scheduler, State
from serving.units import Units
from tempo_core.errors import EngineClosed
from tempo_core.greedy import GreedyBatch, Prompt
from tempo_core.reader import Reader

Result = TypeVar("Result")
MOST_PLACES = 16  # answers that grow side by side
LONGEST_GOODBYE_S = 5.0  # that closing waits for the unit under way


@dataclass(frozen=True)
class _Errand:
    """A small piece of the device's work, for whoever waits for its result."""

    work: Callable[[], Any]
    result: Future[Any]

    def run(self) -> None:
        self.result.set_result(self.work())


@dataclass(frozen=True)
class _Turn:
    """What is to be done next: take out, run, prepare or seat, and one step."""

    cancelled: list[Question]
    errands: list[_Errand]
    due: Question | None
    answering: list[Question]

    def __bool__(self) -> bool:
        return bool(self.cancelled or self.errands or self.due or self.answering)


class Worker:
    """Carries out what the scheduler decides. ``batch``: None where answers come from a server.

    Its thread begins with the first question and ends when it is closed. The scheduler is asked under ``_changed``; all
    else of a question is touched by the thread alone once the question has started.
    """

    def __init__(self, scheduler: Scheduler[Question], batch: GreedyBatch | None) -> None:
        self._scheduler = scheduler
        self._batch = batch
        self._errands: list[_Errand] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def admit(self, question: Question) -> None:
        """Its place in the order. QueueFull or EngineClosed where there is none."""
        with self._changed:
            self._require_open()
            self._scheduler.admit(question)

    def start(self, question: Question, units: Units[Prepared], is_hot: Callable[[], bool]) -> None:
        """From now on it waits for its turn. ``is_hot`` is asked by the worker's thread."""
        with self._changed:
            self._require_open()
            question.units, question.is_hot = units, is_hot
            self._scheduler.move(question, State.WAITING)
            self._changed.notify()

    def cancel(self, question: Question) -> None:
        """Frees what it holds, within a token; nothing where it is over."""
        with self._changed:
            self._scheduler.cancel(question)
            self._changed.notify()

    def run(self, work: Callable[[], Result]) -> Result:
        """The result of a small piece of the device's work, done before the next unit; its error is raised here."""
        result: Future[Result] = Future()
        with self._changed:
            self._require_open()
            self._errands.append(_Errand(work, result))
            self._changed.notify()
        return result.result()

    def close(self) -> None:
        """Questions under way end with EngineClosed."""
        with self._changed:
            self._is_closed, thread = True, self._thread
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(LONGEST_GOODBYE_S)

    def _require_open(self) -> None:
        """The thread is there, or EngineClosed."""
        if self._is_closed:
            raise EngineClosed("the engine is closed: it answers no question any more")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="tempo-worker")
            self._thread.start()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while turn := self._wait():
                self._carry_out(turn)
        finally:
            self._end_all()

    def _wait(self) -> _Turn | None:
        """None: it is closed."""
        scheduler = self._scheduler
        with self._changed:
            while not self._is_closed:
                errands, self._errands = self._errands, []
                turn = _Turn(scheduler.cancelled(), errands, scheduler.next(), scheduler.answering)
                if turn.due is not None and turn.due.state is State.WAITING:
                    scheduler.move(turn.due, State.WORKING)  # from here on cancelling leaves it to this thread
                if turn:
                    return turn
                self._changed.wait()
        return None

    def _carry_out(self, turn: _Turn) -> None:
        for question in turn.cancelled:
            self._end(question)
        for errand in turn.errands:
            _attempt(errand.run, errand.result.set_exception)
        if (due := turn.due) is not None:
            unit = self._seat if due.state is State.PREPARED else self._prepare
            _attempt(partial(unit, due), partial(self._end, due))
        self._step()

    def _prepare(self, question: Question) -> None:
        """One unit."""
        assert question.units is not None
        try:
            awaited = next(question.units)
        except StopIteration as end:
            self._prepared(question, *end.value)
            return
        if awaited is not None:
            self._move(question, State.LOADING)
            awaited.add_done_callback(lambda _: self._move(question, State.WORKING))

    def _prepared(self, question: Question, reading: Reading, prompt: Prompt | None) -> None:
        question.told.put(reading)
        if prompt is None:
            self._end(question)
            return
        question.prompt, question.length = prompt, len(prompt) + question.max_new_tokens
        self._move(question, State.PREPARED)

    def _seat(self, question: Question) -> None:
        """Reads the prompt, which gives the first token."""
        assert self._batch is not None and question.prompt is not None
        question.seated_s = time.perf_counter()
        question.place = self._batch.join(question.prompt, question.max_new_tokens)
        question.prompt = None
        self._move(question, State.ANSWERING)
        self._tell(question)

    def _step(self) -> None:
        with self._changed:
            answering = self._scheduler.answering
        if self._batch is None or not answering:
            return
        _attempt(self._batch.step, partial(self._lose, answering))
        for question in answering:
            if question.state is State.ANSWERING:
                self._tell(question)

    def _lose(self, answering: list[Question], error: Exception) -> None:
        """A step failed, and with it every answer that was under way."""
        assert self._batch is not None
        self._batch.clear()
        for question in answering:
            self._end(question, error)

    def _tell(self, question: Question) -> None:
        assert question.place is not None
        question.tell_tokens()
        if question.place.is_over:
            question.watch.add("generate", time.perf_counter() - question.seated_s)
            self._end(question)

    def _end(self, question: Question, error: Exception | None = None) -> None:
        """It is over, with an error or without; what it held is free."""
        if question.units is not None:
            question.units.close()
            question.units = None
        if question.place is not None and self._batch is not None:
            self._batch.leave(question.place)
        question.prompt = None
        self._move(question, State.OVER)
        question.told.put(error)

    def _end_all(self) -> None:
        """Nothing is left waiting for a thread that is gone."""
        with self._changed:
            self._is_closed = True
            questions, errands = self._scheduler.requests, self._errands
        for question in questions:
            self._end(question, EngineClosed("the engine was closed before the answer was complete"))
        for errand in errands:
            errand.result.set_exception(EngineClosed("the engine was closed"))
        if self._batch is not None:
            self._batch.clear()

    def _move(self, question: Question, state: State) -> None:
        with self._changed:
            self._scheduler.move(question, state)
            self._changed.notify()


def worker_of(reader: Reader | None, answer_bytes: int, most_waiting: int) -> Worker:
    """One for the answers of ``reader``; None: a server answers what it prepares."""
    if reader is None:
        return Worker(Scheduler(Bounds(most_waiting, most_places=0, most_tokens=0)), None)
    most_tokens = answer_bytes // reader.token_nbytes
    return Worker(Scheduler(Bounds(most_waiting, MOST_PLACES, most_tokens)), reader.batch(most_tokens))


def _attempt(work: Callable[[], None], failed: Callable[[Exception], None]) -> None:
    """Whatever goes wrong is told to whoever asked for it, and costs nobody else anything."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - it is raised again, in the thread of whoever asked
        failed(error)
