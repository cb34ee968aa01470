"""``tempo ask`` and ``tempo search``: a question to the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.terminal.options import JsonOption, LibraryOption, ModelOption
from flows.terminal.output import Page, notice, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.answer import Answer
    from serving.engine import Engine
    from storage import Library

_HITS = 10

QuestionArgument = Annotated[str, typer.Argument(metavar="QUESTION", help="What you want to know.", show_default=False)]


def ask(
    question: QuestionArgument,
    library: LibraryOption,
    video: Annotated[
        list[str] | None,
        typer.Option("--video", metavar="ID_OR_URI", help="Only this video; may be given again.", show_default=False),
    ] = None,
    from_time: Annotated[
        str | None, typer.Option("--from", metavar="T", help="From this time on: 75, 1:15 or 1:02:03.")
    ] = None,
    to_time: Annotated[str | None, typer.Option("--to", metavar="T", help="Up to this time.")] = None,
    token_budget: Annotated[
        int | None, typer.Option("--token-budget", metavar="N", min=1, help="Memory tokens for the whole question.")
    ] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask about one video, several, or the whole library. The answer cites the moments it rests on.

    \b
    tempo ask "When does the bridge open?" --library ./lib
    tempo ask "Who speaks first?" --library ./lib --video talk.mp4 --from 10:00 --to 15:00
    tempo ask "..." --library s3://bucket/lib --json | jq .citations
    """
    from flows.text import parse_time

    start = parse_time(from_time) if from_time is not None else None
    end = parse_time(to_time) if to_time is not None else None
    from serving.selection import Scope
    from storage import ALL_MODELS, open_library

    opened = open_library(library)
    videos = tuple(opened.videos(ALL_MODELS, select=video)) if video else None
    scope = Scope(videos, start, end)
    engine = open_engine(opened, model)
    if as_json:
        print_json(engine.ask(question, scope, token_budget).to_json())
    else:
        _read_aloud(engine.stream(question, scope, token_budget))


def search(
    question: QuestionArgument, library: LibraryOption, model: ModelOption = None, as_json: JsonOption = False
) -> None:
    """Find the segments nearest to a question, without answering it.

    \b
    tempo search "a red car at night" --library ./lib
    """
    from storage import open_library

    hits = open_engine(open_library(library), model).search(question, limit=_HITS)
    if as_json:
        for hit in hits:
            print_json(hit.to_json())
        return
    from flows.terminal.answer_view import show_hits

    show_hits(Page(), hits)


def open_engine(library: Library, model: str | None) -> Engine:
    """The engine over a library, with the model asked for or the library's own."""
    from flows.models import choose_model, load_model
    from serving.engine import Engine

    return Engine(library, load_model(choose_model(model, library), notice, may_fetch=bool(model)))


def _read_aloud(events: Iterator[str | Answer]) -> None:
    from flows.terminal.answer_view import show_answer

    page = Page()
    for event in events:
        if isinstance(event, str):
            page.piece(event)
        else:
            page.line()
            show_answer(page, event)
