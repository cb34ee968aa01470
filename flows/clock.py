"""Until when a run may start new videos."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from tempo_core.errors import UsageError


def next_time(text: str, now: datetime) -> datetime:
    """The next moment at which a clock shows HH:MM, tomorrow's if today's is over; UsageError if it is no time."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip(), re.ASCII)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise UsageError(f"--until {text!r} is not a time of day; write HH:MM, for example 06:30")
    moment = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    return moment if moment > now else moment + timedelta(days=1)
