"""Where output goes: JSON objects or text on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console

from flows.text import Glyphs, clean, glyphs_for, unbroken


def print_json(value: Mapping[str, object]) -> None:
    """One JSON object on one line of ASCII, at once: a name in it can neither steer a terminal nor break a stream."""
    sys.stdout.write(_json(value) + "\n")
    sys.stdout.flush()


def print_long_json(value: Mapping[str, object], name: str, items: Iterable[Mapping[str, object]]) -> None:
    """As ``print_json``, with one more key: a list that is written as it is read, so that it may be long."""
    sys.stdout.write(f"{_json(value)[:-1]}, {json.dumps(name)}: [")
    for number, item in enumerate(items):
        sys.stdout.write(f"{', ' if number else ''}{_json(item)}")
    sys.stdout.write("]}\n")
    sys.stdout.flush()


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def plain_console(stderr: bool = False) -> Console:
    """A console that prints text as it is: no markup, no emoji names, no guessing at what to highlight."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


class Page:
    """Readable text on one stream, with nothing in it that steers the terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or plain_console()

    @property
    def glyphs(self) -> Glyphs:
        """Blocks, or ASCII where the stream has no blocks."""
        return glyphs_for(self.console.encoding)

    @property
    def width(self) -> int:
        """Characters of a line."""
        return self.console.width

    def line(self, text: str = "", style: str | None = None) -> None:
        """One line; a long one is wrapped by the terminal, and not at all in a pipe."""
        self.console.print(clean(text), style=style, soft_wrap=True)

    def piece(self, text: str) -> None:
        """Text as it comes, without a line's end."""
        self.console.print(clean(text), end="", soft_wrap=True)


def error_page() -> Page:
    """The page on standard error."""
    return Page(plain_console(stderr=True))


def notice(text: str) -> None:
    """Print a line that the user must know on standard error, dimmed on a terminal."""
    error_page().line(text, style="dim")


def print_error(text: str) -> None:
    """Print why a command ends, on standard error: the one place for it, since a name in it may be anything."""
    error_page().line(f"tempo: {unbroken(text)}")
