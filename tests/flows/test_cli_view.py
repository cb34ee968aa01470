"""What a person sees: times, bars and strips that fit their line, and text that steers nothing."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from flows.terminal.answer_view import show_answer, show_hits
from flows.terminal.output import Page
from flows.text import ASCII, BLOCKS, bar, clean, clock, glyphs_for, parse_time, span, strip
from serving.answer import Answer, AskedSegment, Citation, SearchHit, Timings, Usage
from tempo_core.errors import UsageError


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "00:00"), (59.99, "00:59"), (60, "01:00"), (3599, "59:59"), (3600, "1:00:00"), (36_061, "10:01:01")],
)
def test_a_time_is_what_a_player_shows(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


@given(st.integers(0, 10**6))
def test_a_shown_time_is_understood_again(seconds: int) -> None:
    assert parse_time(clock(seconds)) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("75", 75), ("75.5", 75.5), ("1:15", 75), ("1:02:03.5", 3723.5)])
def test_times_may_be_written_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:99:00", "abc", "1:2:3:4", "nan", "inf", "1e3", "\u0661"])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.25, "250 ms"), (4.2, "4.2 s"), (42, "42 s"), (720, "12 min"), (12_600, "3.5 h")]
)
def test_durations_have_units(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


@given(st.floats(-1, 2), st.integers(0, 50))
def test_a_bar_has_its_width(share: float, width: int) -> None:
    assert len(bar(share, width, BLOCKS)) == width


@given(st.lists(st.floats(0, 1000)), st.integers(0, 80))
def test_a_strip_fits_and_keeps_its_peak(values: list[float], width: int) -> None:
    drawn = strip(values, width, BLOCKS)
    assert len(drawn) == min(width, len(values))
    if drawn and max(values) > 0:
        assert BLOCKS.levels[-1] in drawn


def test_a_strip_tells_nothing_from_little() -> None:
    assert strip([0, 1, 4, 8], 4, BLOCKS) == " ▁▄█"


def test_plain_terminals_get_ascii() -> None:
    assert glyphs_for("ascii") == ASCII
    assert glyphs_for("latin-1") == ASCII
    assert glyphs_for("utf-8") == BLOCKS


@given(st.text())
def test_no_text_steers_the_terminal(text: str) -> None:
    left = clean(text)
    assert len(left) == len(text)
    assert not any(ord(character) < 32 and character not in "\n\t" for character in left)
    assert "\x7f" not in left and "\x9b" not in left and "\u202e" not in left


def answer(segments: int = 40, name: str = "a talk with a rather long name about bridges.mp4") -> Answer:
    """Of one video, 10 s a segment, tokens rising over time."""
    uri = f"/archive/{name}"
    asked = tuple(AskedSegment("id", uri, i, i * 10.0, i * 10.0 + 10, i / segments, 4 + 3 * i) for i in range(segments))
    cited = (Citation("id", uri, 380.0, 400.0, 0.975), Citation("id", uri, 10.0, 20.0, 0.5))
    usage, timings = Usage(1234, 4096, 200, 1500, 12), Timings(0.1, 0.2, 0.3, 0.4, 0.5, 0.0, 1.5)
    return Answer(
        *("It does.", "Does it?", "model", "model", "print", ("a warning",)), asked, cited, "relevance", usage, timings
    )


def drawn(width: int, encoding: str = "utf-8", terminal: bool = False) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    show_answer(Page(Console(file=file, width=width, highlight=False, markup=False, force_terminal=terminal)), answer())
    file.flush()
    return raw.getvalue().decode(encoding)


def test_an_answer_shows_moments_allocation_and_cost() -> None:
    shown = drawn(80)
    assert "  06:20–06:40  ██████████ 0.975  a talk" in shown
    assert "  00:10–00:20  █████░░░░░ 0.500  a talk" in shown
    assert "  00:00 ▁▁▁" in shown and "█ 06:40" in shown
    assert "1,234 of 4,096 visual tokens" in shown
    assert "1.5 s (load 100 ms" in shown
    assert "note: a warning" in shown


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_moments_and_strip_fit_their_line(width: int) -> None:
    lines = [line for line in drawn(width).splitlines() if "█" in line]
    assert lines
    assert max(map(len, lines)) <= max(width, 36)


def test_a_pipe_gets_no_colour_codes() -> None:
    assert "\x1b" not in drawn(80)
    assert "\x1b" in drawn(80, terminal=True)


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[33m" not in drawn(80, terminal=True)
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[33m" in drawn(80, terminal=True)


def test_an_ascii_terminal_gets_an_answer() -> None:
    assert "06:20-06:40  ########## 0.975" in drawn(80, "ascii")


def test_hits_are_shown_best_first_with_their_titles() -> None:
    file = io.StringIO()
    hits = [SearchHit("id", "/archive/x.mp4", "x\x1b[2J.mp4", i, 5.0, 9.0, 0.9 - i / 10) for i in range(2)]
    show_hits(Page(Console(file=file, width=80)), hits)
    first, second = file.getvalue().splitlines()
    assert first.endswith("0.900  x\N{REPLACEMENT CHARACTER}[2J.mp4")
    assert "0.800" in second
