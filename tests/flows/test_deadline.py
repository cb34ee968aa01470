"""Until when a run may begin new videos: a night has an end, also one that begins too late."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.deadline import JUST_OVER, deadline
from tempo_core.errors import UsageError

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"  # the rules themselves: no table of zones is needed


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", BERLIN)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}").astimezone()


@pytest.mark.parametrize(
    ("now", "until", "end"),
    [
        ("03-01T22:00", "23:30", "03-01T23:30"),
        ("03-01T22:00", "06:15", "03-02T06:15"),
        ("03-01T01:00", "06:00", "03-01T06:00"),
        ("03-01T18:00", "06:00", "03-02T06:00"),
        ("03-01T12:00", "06:00", "03-02T06:00"),
        ("02-28T23:59", "00:30", "03-01T00:30"),
    ],
)
def test_a_time_to_come_is_today_or_tomorrow(now: str, until: str, end: str) -> None:
    assert deadline(until, None, at(now)) == at(end)


@pytest.mark.parametrize(
    ("now", "until", "end"),
    [
        ("03-01T06:01", "06:00", "03-01T06:00"),
        ("03-01T09:30", "06:00", "03-01T06:00"),
        ("03-01T13:00", "12:00", "03-01T12:00"),
        ("03-01T06:00", "06:00", "03-01T06:00"),
        ("03-02T01:00", "23:00", "03-01T23:00"),
    ],
)
def test_a_night_that_begins_too_late_does_not_take_the_day(now: str, until: str, end: str) -> None:
    assert deadline(until, None, at(now)) == at(end)


@given(st.integers(0, 60 * 24 * 366), st.integers(0, 23), st.integers(0, 59))
def test_a_run_never_ends_later_than_asked_for_nor_over_long_ago(minutes: int, hour: int, minute: int) -> None:
    now = at("01-01T00:00") + timedelta(minutes=minutes)
    end = deadline(f"{hour}:{minute:02}", None, now)
    assert end is not None
    an_hour = timedelta(hours=1)  # that a night may have more or less
    assert now - JUST_OVER < end <= now + timedelta(days=1) - JUST_OVER + an_hour
    assert (end.hour, end.minute) == (hour, minute) or end.utcoffset() != now.utcoffset()


@pytest.mark.parametrize(("day", "hours"), [("03-28", 7), ("10-24", 9), ("06-01", 8)])
def test_the_clock_may_be_changed_in_the_night(day: str, hours: int) -> None:
    now = at(f"{day}T22:00")
    end = deadline("06:00", None, now)
    assert end is not None
    assert end - now == timedelta(hours=hours)


def test_a_zone_of_its_own_does_not_matter() -> None:
    assert deadline("06:00", None, at("06-01T22:00").astimezone(UTC)) == at("06-02T06:00")


def test_hours_count_from_now_and_the_earlier_end_counts() -> None:
    now = at("06-01T22:00")
    assert deadline(None, 1.5, now) == at("06-01T23:30")
    assert deadline("06:00", 1.5, now) == at("06-01T23:30")
    assert deadline("06:00", 10, now) == at("06-02T06:00")
    assert deadline(None, None, now) is None


@pytest.mark.parametrize("text", ["24:00", "6", "06:60", "0630", "", "6:5", "٠٦:٣٠"])
def test_what_is_no_time_of_day_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="HH:MM"):
        deadline(text, None, at("03-01T00:00"))
