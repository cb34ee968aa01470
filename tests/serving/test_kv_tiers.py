from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from serving.kv_tiers import KvTiers, SegmentKey, default_budgets
from tempo_core.prefix_cache import PrefixCache

CPU = torch.device("cpu")


def _slab(*marks: int) -> PrefixCache:
    """A slab of one layer whose segments are told apart by their numbers; 8 bytes a segment."""
    kv = torch.tensor(marks, dtype=torch.float32).view(1, 1, -1, 1, 1).expand(1, 2, -1, 1, 1).clone()
    return PrefixCache(kv, (1,) * len(marks), (1,) * len(marks))


def _keys(*numbers: int) -> list[SegmentKey]:
    return [SegmentKey("video", "generation", number) for number in numbers]


def _marks(cache: PrefixCache | None) -> list[float]:
    assert cache is not None
    return [float(mark) for mark in cache.kv[0, 0, :, 0, 0]]


def test_a_slab_is_found_by_any_of_its_segments_in_any_order() -> None:
    tiers = KvTiers(CPU, 1000, 0)
    tiers.put(_keys(1, 2, 3), _slab(1, 2, 3))
    assert _marks(tiers.get(_keys(3, 1))) == [3.0, 1.0]


def test_a_whole_slab_is_handed_out_without_a_copy() -> None:
    tiers = KvTiers(CPU, 1000, 0)
    slab = _slab(1, 2)
    tiers.put(_keys(1, 2), slab)
    assert tiers.get(_keys(1, 2)) is slab


def test_segments_of_two_slabs_are_not_one_group() -> None:
    tiers = KvTiers(CPU, 1000, 0)
    tiers.put(_keys(1), _slab(1))
    tiers.put(_keys(2), _slab(2))
    assert tiers.get(_keys(1, 2)) is None
    assert tiers.group(_keys(1, 2, 3, 4), size=1) == [[0], [1], [2], [3]]


def test_the_least_recently_used_slab_goes_first() -> None:
    tiers = KvTiers(CPU, 16, 0)
    tiers.put(_keys(1), _slab(1))
    tiers.put(_keys(2), _slab(2))
    tiers.get(_keys(1))
    tiers.put(_keys(3), _slab(3))
    assert [tiers.holds(_keys(number)) for number in (1, 2, 3)] == [True, False, True]


def test_what_leaves_the_device_waits_in_host_memory_and_comes_back() -> None:
    tiers = KvTiers(torch.device("meta"), 8, 8)  # any device but the CPU has a host tier
    tiers.put(_keys(1), _slab(1))
    tiers.put(_keys(2), _slab(2))
    assert tiers.nbytes == (8, 8)
    assert tiers.get(_keys(1)) is not None
    assert tiers.nbytes == (8, 8)
    assert tiers.holds(_keys(2))


def test_a_budget_below_nothing_is_nothing() -> None:
    tiers = KvTiers(CPU, -1, -1)
    tiers.put(_keys(1), _slab(1))
    assert tiers.nbytes == (0, 0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=40), st.integers(0, 40))
def test_budgets_hold_and_every_answer_is_the_right_segments(steps: list[tuple[bool, int]], budget: int) -> None:
    tiers = KvTiers(CPU, budget, 0)
    for put, number in steps:
        if put and not tiers.holds(_keys(number)):
            tiers.put(_keys(number), _slab(number))
        elif tiers.holds(_keys(number)):
            assert _marks(tiers.get(_keys(number))) == [float(number)]
        assert tiers.nbytes[0] <= budget


@pytest.mark.parametrize("size", [1, 3, 32])
def test_groups_cover_every_position_once(size: int) -> None:
    tiers = KvTiers(CPU, 1000, 0)
    tiers.put(_keys(2, 5), _slab(2, 5))
    groups = tiers.group(_keys(*range(8)), size)
    assert sorted(position for group in groups for position in group) == list(range(8))
    assert groups[0] == [2, 5]
    assert all(len(group) <= size for group in groups[1:])


def test_a_quarter_of_the_memory_that_the_container_allows_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.kv_tiers.memory_bytes", lambda: 4000)
    assert default_budgets(CPU) == (1000, 0)


# --- pins ------------------------------------------------------------------------------------------------------------


def test_what_is_pinned_stays_while_others_come_and_go() -> None:
    tiers = KvTiers(CPU, 16, 0)
    tiers.put(_keys(1), _slab(1))
    with tiers.pinned(_keys(1)):
        for number in (2, 3, 4):
            tiers.put(_keys(number), _slab(number))
        assert [tiers.holds(_keys(number)) for number in (1, 2, 3, 4)] == [True, False, False, True]
    tiers.put(_keys(5), _slab(5))
    assert [tiers.holds(_keys(number)) for number in (1, 4, 5)] == [False, True, True]


def test_where_all_is_pinned_the_budget_holds_and_the_new_is_not_kept() -> None:
    tiers = KvTiers(CPU, 16, 0)
    with tiers.pinned(_keys(1, 2, 3)):
        for number in (1, 2, 3):
            tiers.put(_keys(number), _slab(number))
        assert [tiers.holds(_keys(number)) for number in (1, 2, 3)] == [True, True, False]
    assert tiers.nbytes == (16, 0)


def test_what_two_questions_pin_stays_until_both_are_done() -> None:
    tiers = KvTiers(CPU, 8, 0)
    tiers.put(_keys(1), _slab(1))
    with tiers.pinned(_keys(1)):
        with tiers.pinned(_keys(1, 2)):
            pass
        tiers.put(_keys(3), _slab(3))
        assert tiers.holds(_keys(1))
    tiers.put(_keys(4), _slab(4))
    assert not tiers.holds(_keys(1))


def test_an_error_inside_unpins() -> None:
    tiers = KvTiers(CPU, 8, 0)
    tiers.put(_keys(1), _slab(1))
    with pytest.raises(RuntimeError), tiers.pinned(_keys(1)):
        raise RuntimeError
    tiers.put(_keys(2), _slab(2))
    assert not tiers.holds(_keys(1))


@given(st.lists(st.tuples(st.sampled_from(["put", "pin", "unpin"]), st.integers(0, 9)), max_size=60))
def test_what_is_pinned_and_held_is_held_until_it_is_unpinned(steps: list[tuple[str, int]]) -> None:
    tiers, pins = KvTiers(torch.device("meta"), 16, 16), dict[int, ExitStack]()
    for step, number in steps:
        kept = [one for one in pins if tiers.holds(_keys(one))]
        if step == "put":
            tiers.put(_keys(number), _slab(number))
        elif step == "pin" and number not in pins:
            pins[number] = ExitStack()
            pins[number].enter_context(tiers.pinned(_keys(number)))
        elif step == "unpin" and number in pins:
            pins.pop(number).close()
        assert all(tiers.holds(_keys(one)) for one in kept)
        assert max(tiers.nbytes) <= 16


def test_segments_that_two_slabs_share_are_kept_once() -> None:
    tiers = KvTiers(CPU, 1000, 0)
    tiers.put(_keys(1, 2), _slab(1, 2))
    tiers.put(_keys(2, 3), _slab(2, 3))
    tiers.put(_keys(1, 3), _slab(1, 3))  # nothing new
    assert tiers.group(_keys(1, 2, 3), size=8) == [[0, 1], [2]]
    assert (_marks(tiers.get(_keys(2))), _marks(tiers.get(_keys(3)))) == ([2.0], [3.0])
    assert tiers.nbytes == (32, 0)
