"""``tempo ask`` and ``tempo search``: a question to the library."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from flows.models import ModelChoice, choose_models, load_model
from flows.terminal.options import FeaturesOption, JsonOption, LibraryOption, ModelOption
from flows.terminal.output import Page, notice, print_json
from tempo_core.errors import TempoError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.answer import Answer
    from serving.chat_server import ChatServer
    from serving.engine import Engine
    from serving.selection import Scope
    from storage import Library

_HITS = 10
READER_HELP = (
    "Let this server answer instead of the model, which still finds the moments: any that speaks OpenAI's chat "
    "completions and sees images (vLLM, SGLang, llama.cpp, transformers serve). The frames of the moments and the "
    "question are sent there, and nowhere unless one is named, here or in TEMPO_READER. Its key is taken from "
    "TEMPO_READER_KEY, else OPENAI_API_KEY."
)

_VIDEO_HELP = (
    "Only this video; may be given again. `ask` reads one video whole, and several that have up to 1,024 segments in "
    "all; of more, the 64 segments nearest to the question."
)
_Video = typer.Option("--video", metavar="ID_OR_URI", help=_VIDEO_HELP, show_default=False)
_Folder = typer.Option(
    "--folder", metavar="DIR_OR_S3", help="Only videos below this folder or S3 prefix.", show_default=False
)
_From = typer.Option("--from", metavar="T", help="From this time on: 75, 1:15 or 1:02:03.")
_To = typer.Option("--to", metavar="T", help="Up to this time.")
VideoOption = Annotated[list[str] | None, _Video]
FolderOption = Annotated[str | None, _Folder]
FromOption = Annotated[str | None, _From]
ToOption = Annotated[str | None, _To]
QuestionArgument = Annotated[str, typer.Argument(metavar="QUESTION", help="What you want to know.", show_default=False)]


def ask(  # noqa: PLR0913, PLR0917 - an option each
    question: QuestionArgument,
    library: LibraryOption,
    video: VideoOption = None,
    folder: FolderOption = None,
    from_time: FromOption = None,
    to_time: ToOption = None,
    token_budget: Annotated[
        int | None, typer.Option("--token-budget", metavar="N", min=1, help="Visual tokens for the whole question.")
    ] = None,
    model: ModelOption = None,
    features: FeaturesOption = None,
    reader: Annotated[
        str | None,
        typer.Option("--reader", metavar="URL#MODEL", envvar="TEMPO_READER", help=READER_HELP, show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask about one video, several, or the whole library. The answer cites the moments it rests on.

    \b
    tempo ask "When does the bridge open?" --library ./lib
    tempo ask "Who speaks first?" --library ./lib --video talk.mp4 --from 10:00 --to 15:00
    tempo ask "..." --library s3://bucket/lib --json | jq .citations
    tempo ask "..." --library ./lib --reader http://gpu7:8000/v1#Qwen/Qwen3-VL-32B-Instruct
    """
    server = named_reader(reader)
    opened, scope = _opened(library, video or [], folder, from_time, to_time)
    engine = open_engine(opened, choose_models(model, features, opened), server)
    if as_json:
        print_json(engine.ask(question, scope, token_budget).to_json())
    else:
        _read_aloud(engine.stream(question, scope, token_budget))


def search(  # noqa: PLR0913, PLR0917 - an option each
    question: QuestionArgument,
    library: LibraryOption,
    video: VideoOption = None,
    folder: FolderOption = None,
    from_time: FromOption = None,
    to_time: ToOption = None,
    model: ModelOption = None,
    features: FeaturesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the segments nearest to a question, without answering it.

    \b
    tempo search "a red car at night" --library ./lib
    tempo search "a red car at night" --library ./lib --folder /archive/2026/cam1
    """
    opened, scope = _opened(library, video or [], folder, from_time, to_time)
    hits = open_engine(opened, choose_models(model, features, opened)).search(question, scope, limit=_HITS)
    if as_json:
        for hit in hits:
            print_json(hit.to_json())
        return
    from flows.terminal.answer_view import show_hits

    show_hits(Page(), hits)


def named_reader(address: str | None) -> ChatServer | None:
    """The server that was named to answer, if one was; what is sent to it is said on standard error."""
    if not address:
        return None
    from serving.chat_server import chat_server

    return chat_server(address, os.environ, notice)


def open_engine(library: Library, choice: ModelChoice, server: ChatServer | None = None) -> Engine:
    """The engine over a library, with the models chosen, and the server that answers if any."""
    from serving.engine import Engine

    return Engine(library, load_model(choice, notice), server=server)


def _opened(
    uri: str, names: list[str], folder: str | None, from_time: str | None, to_time: str | None
) -> tuple[Library, Scope]:
    """The library, and what is asked over; UsageError for a time or a name that is none."""
    from flows.text import parse_time

    start, end = (None if time is None else parse_time(time) for time in (from_time, to_time))
    from serving.selection import Scope
    from storage import ALL_MODELS, open_library

    library = open_library(uri)
    videos = tuple(library.videos(ALL_MODELS, names, folder)) if names else None
    if videos == ():
        raise UsageError(f"none of the videos named lies below {folder}; leave out --folder or --video")
    return library, Scope(videos, folder, start, end)


def _read_aloud(events: Iterator[str | Answer]) -> None:
    from flows.terminal.answer_view import show_answer

    page, has_begun = Page(), False
    try:
        for event in events:
            if isinstance(event, str):
                page.piece(event)
                has_begun = True
            else:
                page.line()
                show_answer(page, event)
    except TempoError:
        if has_begun:
            page.line()  # the error is a line of its own
        raise
