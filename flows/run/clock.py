"""Until when a run may begin new videos."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from tempo_core.errors import UsageError

JUST_OVER = timedelta(hours=6)  # as long as a run waits for another one
MOST_HOURS = 24.0 * 366


def deadline(until: str | None, max_hours: float | None, now: datetime) -> datetime | None:
    """The moment after which no video is begun: the earlier of ``until`` and ``max_hours`` from ``now``, or None.

    ``until`` is HH:MM by the clock of this machine, today or tomorrow. A time that was over less than six hours ago
    (``JUST_OVER``) is over: a night's run that starts too late, because its machine was off or another run took the
    night, must not take the day. So from 06:00 to 12:00 "06:00" begins nothing, after that it is tomorrow's. UsageError
    if ``until`` is no time of day, or ``max_hours`` no number of hours.
    """
    ends = [_moment(until, now)] if until is not None else []
    ends += [now + timedelta(hours=_hours(max_hours))] if max_hours is not None else []
    return min(ends, default=None)


def time_of_day(text: str) -> tuple[int, int]:
    """Hours and minutes of HH:MM; UsageError if it is no time of day."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip(), re.ASCII)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise UsageError(f"--until {text!r} is not a time of day; write HH:MM, for example 06:30")
    return int(match[1]), int(match[2])


def _moment(text: str, now: datetime) -> datetime:
    """Of yesterday, today or tomorrow: the first that was not over too long ago."""
    days = (now.astimezone() + timedelta(days=day) for day in (-1, 0, 1, 2))
    return next(moment for moment in (_at(day, text) for day in days) if moment > now - JUST_OVER)


def _at(day: datetime, text: str) -> datetime:
    """By the rules of this machine's zone for that day: a night may have one hour more, or less."""
    hour, minute = time_of_day(text)
    return day.replace(hour=hour, minute=minute, second=0, microsecond=0, tzinfo=None).astimezone()


def _hours(hours: float) -> float:
    if not 0 < hours <= MOST_HOURS:
        raise UsageError(f"--max-hours {hours:g} cannot be meant; give hours above 0, for example 5.5")
    return hours
