"""``tempo demo``: the whole way, on videos made here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal.options import JsonOption, ModelOption


def demo(
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="DIR",
            help="Keep the videos (anew, under DIR/videos) and their library here.",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a few short videos, index them, ask about them, show the answers with times and allocation.

    \b
    tempo demo
    tempo demo --keep ./demo && tempo ask "..." --library ./demo/library
    """
    from flows.terminal.demo import run_demo

    run_demo(keep, model, as_json)
