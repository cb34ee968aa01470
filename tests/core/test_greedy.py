"""Answers that grow side by side: each has the tokens that it has alone, whoever joins and leaves, and when."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tempo_core.answer_memory import AnswerMemory
from tempo_core.errors import BudgetError
from tempo_core.greedy import GreedyBatch, Place, Prompt, greedy
from tempo_core.places import LENGTH_STEP, Extent, fits, grown, least_extent, power_of_two
from tempo_core.reader import Reader
from tests.support.golden_cases import golden_case, golden_checkpoint, small_segment, stock_checkpoint

MOST = 9  # tokens of an answer here
LENGTHS = st.lists(st.integers(1, 9000), min_size=1, max_size=20)


def memory_prompt(number: int) -> Prompt:
    """Of memory tokens, one position a token."""
    case = golden_case("bcd"[number % 3])
    memory = [torch.from_numpy(tokens[:count]) for tokens, count in zip(case.features, case.allocation, strict=True)]
    return golden_checkpoint().answerer.prompt(f"{case.question} {number}", case.tag_times_s, memory)


def visual_prompt(number: int) -> Prompt:
    """Of frame pairs, with three axes of positions."""
    segments = [small_segment((1 + number % 2, 4, 4), 0.5 + 2 * i, seed=number + i) for i in range(1 + number)]
    return stock_checkpoint().reader.prompt(f"What is {number}?", stock_checkpoint().router.encode(segments))


FAMILIES: dict[str, tuple[Callable[[int], Prompt], Callable[[], Reader]]] = {
    "memory": (cache(memory_prompt), lambda: golden_checkpoint().reader),
    "visual": (cache(visual_prompt), lambda: stock_checkpoint().reader),
}
BOTH = pytest.mark.parametrize("family", list(FAMILIES))


def prompt(family: str, number: int) -> Prompt:
    return FAMILIES[family][0](number)


def fresh(family: str, stop_ids: frozenset[int] = frozenset(), context_tokens: int = 16384) -> GreedyBatch:
    return GreedyBatch(FAMILIES[family][1]()._llm, context_tokens, stop_ids, most_tokens=1 << 16)


@cache
def alone(family: str, number: int) -> list[int]:
    return list(greedy(fresh(family), prompt(family, number), MOST))


# --- company ---------------------------------------------------------------------------------------------------------


@BOTH
@settings(max_examples=15)
@given(st.data())
def test_an_answer_is_the_same_whoever_joins_and_leaves_at_any_token(family: str, data: st.DataObject) -> None:
    batch, running, over = fresh(family), list[tuple[int, Place]](), list[tuple[int, Place]]()
    for number in range(6):
        running.append((number, batch.join(prompt(family, number), MOST)))
        for _ in range(data.draw(st.integers(0, 4), "steps")):
            batch.step()
        if data.draw(st.booleans(), "one leaves"):
            gone = running.pop(data.draw(st.integers(0, len(running) - 1), "which"))
            batch.leave(gone[1])
            over.append(gone)
    for _ in range(MOST):
        batch.step()
    for number, place in running:
        assert place.tokens == alone(family, number)
    for number, place in over:
        assert place.tokens == alone(family, number)[: len(place.tokens)] != []


@BOTH
def test_answers_that_have_their_most_tokens_leave_by_themselves(family: str) -> None:
    batch = fresh(family)
    short, long = batch.join(prompt(family, 0), 2), batch.join(prompt(family, 1), 4)
    batch.step()
    assert (short.is_over, long.is_over) == (True, False)
    for _ in range(9):
        batch.step()
    assert (short.tokens, long.tokens) == (alone(family, 0)[:2], alone(family, 1)[:4])


def test_an_end_of_turn_ends_its_answer_only() -> None:
    stop = next(token for token in alone("memory", 0) if token not in alone("memory", 1))
    batch = fresh("memory", frozenset({stop}))
    stopping, going = (batch.join(prompt("memory", number), MOST) for number in (0, 1))
    for _ in range(MOST):
        batch.step()
    assert stopping.tokens == alone("memory", 0)[: alone("memory", 0).index(stop)]
    assert going.tokens == alone("memory", 1)


def test_one_that_has_left_may_leave_again() -> None:
    batch = fresh("memory")
    first, second = (batch.join(prompt("memory", number), MOST) for number in (0, 1))
    for _ in range(2):
        batch.leave(first)
    assert drained(batch, second) == alone("memory", 1)


def drained(batch: GreedyBatch, place: Place) -> list[int]:
    while not place.is_over:
        batch.step()
    return place.tokens


def test_a_long_prompt_moves_those_that_run_into_longer_places() -> None:
    batch = fresh("memory")
    first = batch.join(prompt("memory", 0), MOST)
    batch.step()
    long = batch.join(prompt("memory", 1), LENGTH_STEP)
    assert drained(batch, first) == alone("memory", 0)
    assert long.tokens == alone("memory", 1)[: MOST - 1]


@BOTH
def test_rows_that_nobody_has_may_be_computed_beside_and_a_step_may_be_undone(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a captured graph does, which is made of a step whose changes are undone."""
    batch = fresh(family)
    real = batch._one_token

    def rounded(memory: AnswerMemory, rows: int) -> None:
        with memory.unchanged():
            real(memory, power_of_two(rows))
        real(memory, power_of_two(rows))

    monkeypatch.setattr(batch, "_one_token", rounded)
    places = [batch.join(prompt(family, number), MOST) for number in range(3)]
    batch.step()
    batch.leave(places[0])
    places.append(batch.join(prompt(family, 3), MOST))
    for _ in range(3):
        batch.step()
    batch.leave(places[1])
    for _ in range(MOST):
        batch.step()
    assert [place.tokens for place in places[2:]] == [alone(family, number) for number in (2, 3)]


def test_what_one_computes_from_infinities_harms_nobody_behind_it() -> None:
    batch = fresh("memory")
    broken = Prompt(torch.full_like(prompt("memory", 2).embeds, float("nan")).repeat(3, 1), 0)
    batch.leave(batch.join(broken, MOST))
    assert list(greedy(batch, prompt("memory", 0), MOST)) == alone("memory", 0)


def test_a_prompt_beyond_the_context_takes_no_place() -> None:
    batch = fresh("memory", context_tokens=len(prompt("memory", 1)) + MOST)
    first = batch.join(prompt("memory", 1), MOST)
    with pytest.raises(BudgetError, match="lower the token budget"):
        batch.join(prompt("memory", 1), MOST + 1)
    assert drained(batch, first) == alone("memory", 1)


def test_memory_that_runs_short_costs_only_the_one_that_wanted_more(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = fresh("memory")
    first = batch.join(prompt("memory", 0), MOST)
    memory, calls = batch._held(), iter(range(100))

    def layer(extent: Extent) -> torch.Tensor:
        if next(calls) == 1:  # the first layer has grown already
            raise torch.OutOfMemoryError("no more")
        return real(extent)

    real = memory._layer
    monkeypatch.setattr(memory, "_layer", layer)
    with pytest.raises(torch.OutOfMemoryError):
        batch.join(prompt("memory", 1), MOST)
    batch.step()
    second = batch.join(prompt("memory", 1), MOST)
    assert drained(batch, second) == alone("memory", 1)
    assert first.tokens == alone("memory", 0)


# --- how much memory -------------------------------------------------------------------------------------------------


@given(LENGTHS)
def test_a_least_extent_holds_its_answers_and_is_at_most_twice_as_many_and_a_step_longer(lengths: list[int]) -> None:
    least = least_extent(lengths)
    assert least.holds(lengths)
    assert least.places < 2 * len(lengths)
    assert least.length < max(lengths) + LENGTH_STEP


@given(LENGTHS, LENGTHS, st.integers(0, 1 << 17))
def test_memory_grows_within_its_bound_and_does_not_grow_where_it_is_enough(
    before: list[int], lengths: list[int], most: int
) -> None:
    held = least_extent(before)
    found = grown(held, lengths, most)
    assert found.holds(lengths)
    assert found == held or found.tokens <= most or not fits(lengths, most) or len(lengths) == 1


@pytest.mark.parametrize(
    ("lengths", "most", "fit"),
    [([9000], 1, True), ([1, 1], 4096, True), ([1, 1], 4095, False), ([1, 2049], 8191, False)],
)
def test_one_answer_always_fits_and_others_beside_it_as_memory_allows(lengths: list[int], most: int, fit: bool) -> None:
    assert fits(lengths, most) is fit
