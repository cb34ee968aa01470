"""Whose turn it is: bounds, order, who may pass whom, and that everybody's turn comes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.scheduler import MOST_IN_PREPARATION, Bounds, Request, Scheduler, State
from tempo_core.errors import QueueFull
from tempo_core.places import fits

BOUNDS = Bounds(most_waiting=6, most_places=3, most_tokens=4 * 2048)
STEPS = ("hot", "cold", "works", "works", "loads", "is prepared", "loaded", "answers", "cancel")


class World:
    """Does with requests what the worker and the callers do, and remembers in which order each thing happened."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.scheduler: Scheduler[Request] = Scheduler(bounds)
        self.came: list[Request] = []
        self.begun: list[Request] = []
        self.seated: list[Request] = []

    def comes(self, hot: bool = True, length: int = 2048) -> Request:
        request = Request(is_hot=lambda: hot, length=length)
        self.scheduler.admit(request)
        self.scheduler.move(request, State.WAITING)
        self.came.append(request)
        return request

    def unit(self, leads_to: State = State.WORKING) -> Request | None:
        """One unit of whoever is due, and where it leads; one that is prepared gets its place."""
        due = self.scheduler.next()
        if due is None:
            return None
        if due.state is State.PREPARED:
            self.seated.append(due)
            self.scheduler.move(due, State.ANSWERING)
            return due
        if due.state is State.WAITING:
            self.begun.append(due)
        self.scheduler.move(due, leads_to)
        return due

    def takes_out(self) -> None:
        for request in self.scheduler.cancelled():
            self.scheduler.move(request, State.OVER)

    def first(self, state: State) -> Request | None:
        return next((one for one in self.scheduler.requests if one.state is state), None)

    def does(self, step: str, length: int) -> None:
        if step in ("hot", "cold") and len(self.scheduler.requests) < 20:
            try:
                self.comes(step == "hot", length)
            except QueueFull:
                assert self.count(State.WAITING) == BOUNDS.most_waiting
        elif step == "loaded" and (request := self.first(State.LOADING)):
            self.scheduler.move(request, State.WORKING)
        elif step == "answers" and (request := self.first(State.ANSWERING)):
            self.scheduler.move(request, State.OVER)
        elif step == "cancel" and self.scheduler.requests:
            self.scheduler.cancel(self.scheduler.requests[length % len(self.scheduler.requests)])
            self.takes_out()
        elif leads_to := {"works": State.WORKING, "loads": State.LOADING, "is prepared": State.PREPARED}.get(step):
            self.unit(leads_to)

    def count(self, *states: State) -> int:
        return sum(one.state in states for one in self.scheduler.requests)


DOINGS = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 6000)), max_size=80)


def numbers(world: World, requests: Sequence[Request]) -> list[int]:
    return [world.came.index(one) for one in requests]


@given(DOINGS)
def test_what_waits_is_prepared_and_answers_stays_bounded(doings: list[tuple[str, int]]) -> None:
    world = World()
    for step, length in doings:
        world.does(step, length)
        lengths = [one.length for one in world.scheduler.answering]
        assert world.count(State.WAITING) <= BOUNDS.most_waiting
        assert world.count(State.WORKING, State.LOADING, State.PREPARED) <= MOST_IN_PREPARATION
        assert len(lengths) <= BOUNDS.most_places
        assert not lengths or fits(lengths, BOUNDS.most_tokens)


@given(DOINGS)
def test_everybody_who_is_not_cancelled_is_answered(doings: list[tuple[str, int]]) -> None:
    world = World()
    for step, length in doings:
        world.does(step, length)
    for _ in range(10 * len(world.came)):  # disks and answers end, and nobody new comes
        for step in ("loaded", "answers"):
            world.does(step, 1)
        world.unit(State.PREPARED)
    assert world.scheduler.requests == ()
    assert {one for one in world.came if not one.is_cancelled} <= set(world.seated)


@given(DOINGS)
def test_nobody_begins_before_one_who_came_earlier_unless_that_one_needs_the_disk(
    doings: list[tuple[str, int]],
) -> None:
    world = World()
    for step, length in doings:
        waiting = [one for one in world.scheduler.requests if one.state is State.WAITING]
        begun = len(world.begun)
        world.does(step, length)
        for one in world.begun[begun:]:
            passed = waiting[: waiting.index(one)]
            assert all(not other.is_hot() for other in passed)
            assert not passed or one.is_hot()


def test_questions_without_a_disk_are_served_in_their_order() -> None:
    world = World()
    for _ in range(5):
        world.comes()
    while world.unit(State.PREPARED) is not None:
        pass
    assert numbers(world, world.begun) == [0, 1, 2, 3]  # three places, and one waits for the next
    assert numbers(world, world.seated) == [0, 1, 2]


def test_a_question_that_needs_no_disk_passes_one_that_loads() -> None:
    world = World()
    cold, other_cold, hot = world.comes(hot=False), world.comes(hot=False), world.comes()
    assert world.unit(State.LOADING) is cold
    assert world.unit() is hot
    assert other_cold.state is State.WAITING


def test_one_that_has_loaded_goes_on_before_those_that_passed_it() -> None:
    world = World()
    cold, hot = world.comes(hot=False), world.comes()
    world.unit(State.LOADING)
    assert world.unit() is hot
    world.scheduler.move(cold, State.WORKING)
    assert world.unit(State.PREPARED) is cold


def test_a_long_answer_waits_for_room_and_nobody_behind_it_takes_that() -> None:
    world = World()
    short, long, later = world.comes(), world.comes(length=6000), world.comes()
    for _ in range(3):
        world.unit(State.PREPARED)
    assert (short.state, long.state) == (State.ANSWERING, State.PREPARED)
    assert world.unit() is None  # later would fit
    assert later.state is State.WAITING
    world.scheduler.move(short, State.OVER)
    assert world.unit() is long


def test_one_too_many_is_refused_with_the_way_out() -> None:
    world = World()
    for _ in range(BOUNDS.most_waiting):
        world.comes()
    with pytest.raises(QueueFull, match=r"6 questions wait already, .* ask again later"):
        world.comes()
    world.unit()
    world.comes()


def test_one_that_is_still_being_selected_counts_but_holds_nobody_up() -> None:
    world = World()
    selecting = Request()
    world.scheduler.admit(selecting)
    behind = world.comes()
    assert world.unit() is behind
    for _ in range(BOUNDS.most_waiting - 1):
        world.comes()
    with pytest.raises(QueueFull):
        world.comes()


def test_one_that_waits_is_over_at_once_when_cancelled_and_its_place_in_the_queue_is_free() -> None:
    world = World()
    first, *_ = [world.comes() for _ in range(BOUNDS.most_waiting)]
    world.scheduler.cancel(first)
    assert (first.state, world.scheduler.cancelled()) == (State.OVER, [])
    world.comes()


@pytest.mark.parametrize("state", [State.WORKING, State.LOADING, State.PREPARED, State.ANSWERING])
def test_one_under_way_is_taken_out_when_cancelled_and_never_due(state: State) -> None:
    world = World()
    request = world.comes()
    world.scheduler.move(request, state)
    world.scheduler.cancel(request)
    assert world.scheduler.cancelled() == [request]
    assert world.scheduler.next() is None
    world.takes_out()
    world.scheduler.move(request, State.WORKING)  # its disk, late
    assert (request.state, world.scheduler.requests) == (State.OVER, ())
