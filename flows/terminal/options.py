"""The options that several commands share."""

from __future__ import annotations

import re
from typing import Annotated

import typer

LICENCE_NOTE = "The published Tempo-6B weights are licensed for non-commercial research only."


def _place(uri: str) -> str:
    """A mistyped or foreign address must not become a folder of that name."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", uri) and not uri.startswith(("s3://", "file:///")):
        raise typer.BadParameter(f"{uri} is no place for a library; give a folder, or s3://bucket/prefix")
    return uri


LibraryOption = Annotated[
    str,
    typer.Option(
        "--library",
        metavar="URI",
        envvar="TEMPO_LIBRARY",
        callback=_place,
        help="The library: a folder, or s3://bucket/prefix.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="ID",
        envvar="TEMPO_MODEL",
        help="A checkpoint: a folder or a Hugging Face id (Vision-CAIR/Tempo-6B), or 'embedded'. Default: the "
        f"library's model, else the embedded one, which knows only the demo's drawn world. {LICENCE_NOTE}",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="JSON objects on standard output and nothing else; logs on standard error.")
]
