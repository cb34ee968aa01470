"""Until when a run may begin new videos."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from tempo_core.errors import UsageError

JUST_OVER = timedelta(hours=6)  # as long as a run waits for another one
MOST_HOURS = 24.0 * 366
TIME_OF_DAY = r"^([01]?\d|2[0-3]):[0-5]\d$"


def deadline(until: str | None, max_hours: float | None, now: datetime) -> datetime | None:
    """The moment after which no video is begun: the earlier of ``until`` and ``max_hours`` from ``now``, or None.

    ``until`` is HH:MM by the clock of this machine, today or tomorrow. A time that passed less than six hours ago
    (``JUST_OVER``) has passed: a night's run that starts too late, because its machine was off or another run took the
    night, must not take the day. So from 06:00 to 12:00 "06:00" begins nothing, after that it is tomorrow's. UsageError
    if ``until`` is not a time of day.
    """
    ends = [_next_moment(until, now)] if until is not None else []
    ends += [now + timedelta(hours=max_hours)] if max_hours is not None else []
    return min(ends, default=None)


def parse_time_of_day(text: str) -> tuple[int, int]:
    """Hours and minutes of HH:MM; UsageError if it is not a time of day."""
    if re.fullmatch(TIME_OF_DAY, text.strip(), re.ASCII) is None:
        raise UsageError(f"--until {text!r} is not a time of day; write HH:MM, for example 06:30")
    hour, _, minute = text.strip().partition(":")
    return int(hour), int(minute)


def _next_moment(text: str, now: datetime) -> datetime:
    """The first occurrence, of yesterday, today or the next two days, that did not pass too long ago."""
    days = (now.astimezone() + timedelta(days=day) for day in (-1, 0, 1, 2))
    return next(moment for moment in (_on_day(day, text) for day in days) if moment > now - JUST_OVER)


def _on_day(day: datetime, text: str) -> datetime:
    """By the rules of this machine's zone for that day: a night may have one hour more, or less."""
    hour, minute = parse_time_of_day(text)
    return day.replace(hour=hour, minute=minute, second=0, microsecond=0, tzinfo=None).astimezone()
