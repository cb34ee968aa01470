"""Times, sizes, bars and strips as text for people: plain characters that pipes and narrow terminals can show."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len, set_cell_size
from rich.filesize import decimal

from tempo_core.errors import UsageError

_TIME = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d+)?)", re.ASCII)


@dataclass(frozen=True)
class Glyphs:
    full: str
    empty: str
    levels: str
    dash: str


BLOCKS = Glyphs(full="█", empty="░", levels="▁▂▃▄▅▆▇█", dash="–")
ASCII = Glyphs(full="#", empty=".", levels="_.-=+*%#", dash="-")


def glyphs_for(encoding: str) -> Glyphs:
    """Block characters if ``encoding`` has them, else ASCII."""
    try:
        (BLOCKS.full + BLOCKS.empty + BLOCKS.levels + BLOCKS.dash).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def clock(seconds: float) -> str:
    """Player time: mm:ss, from an hour on h:mm:ss (whole seconds, rounded down)."""
    minutes, second = divmod(math.floor(max(0.0, seconds) + 1e-6), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def parse_time(text: str) -> float:
    """``75``, ``75.5``, ``1:15`` or ``1:02:03`` to seconds; UsageError for anything else."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"not a time: {text!r}; write seconds (75), mm:ss (1:15) or h:mm:ss (1:02:03)")
    hours, minutes, seconds = match.groups()
    if minutes is not None and float(seconds) >= 60:
        raise UsageError(f"not a time: {text!r}; seconds after a colon end at 59")
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def counted(number: int, word: str) -> str:
    """1 video, 2 videos, 1,024 frames."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def size(count: float) -> str:
    """Bytes for people: 1.2 GB (powers of 1000)."""
    return decimal(int(count))


def span(seconds: float) -> str:
    """A duration for people: 250 ms, 4.2 s, 12 min, 3.5 h."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def bar(share: float, width: int, glyphs: Glyphs) -> str:
    """``share`` in 0..1 as a bar of ``width`` characters."""
    filled = round(min(1.0, max(0.0, share)) * width)
    return glyphs.full * filled + glyphs.empty * (width - filled)


def strip(values: Sequence[float], width: int, glyphs: Glyphs) -> str:
    """Values over time as a line of at most ``width`` characters, each as high as its share of the largest value.

    Where there are more values than characters, each character shows the largest of its values, so that no peak is
    lost. Zero is a blank.
    """
    columns = min(width, len(values))
    top = max(values, default=0.0)
    if columns < 1 or top <= 0:
        return " " * max(0, columns)
    edges = [len(values) * column // columns for column in range(columns + 1)]
    peaks = [max(values[low:high]) for low, high in pairwise(edges)]
    return "".join(_level(peak / top, glyphs) for peak in peaks)


def clean(text: str) -> str:
    """``text`` with each control, line and direction character, which could steer a terminal, replaced."""
    return "".join(character if _harmless(character) else "\N{REPLACEMENT CHARACTER}" for character in text)


def unbroken(text: str) -> str:
    """``clean(text)`` with a blank for each line's end, so that no name in it looks like a line of its own."""
    return clean(text).replace("\n", " ")


def one_line(text: str) -> str:
    """``clean(text)`` on one line."""
    return " ".join(clean(text).split())


def shortened(name: str, room: int) -> str:
    """``one_line``, cut to ``room`` columns of the terminal (a CJK character takes two)."""
    shown = one_line(name)
    if cell_len(shown) <= room:
        return shown
    return set_cell_size(shown, room - 1) + "~" if room > 0 else ""


def _level(share: float, glyphs: Glyphs) -> str:
    if share <= 0:
        return " "
    return glyphs.levels[min(len(glyphs.levels), math.ceil(share * len(glyphs.levels))) - 1]


def _harmless(character: str) -> bool:
    if character in "\n\t":
        return True
    return (
        unicodedata.category(character) not in {"Cc", "Cs"}
        and character not in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
