"""``tempo``: the command line. Help and errors load no model library; each command imports what it needs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.environment import prepare
from flows.terminal.commands import ask, demo, doctor, index, library, schedule
from flows.terminal.output import print_error
from flows.text import unbroken
from tempo_core.errors import TempoError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


# The base of what typer prints by itself: it has a copy of click of its own in some releases.
_ArgumentError: Any = typer.BadParameter.__base__


class TempoGroup(TyperGroup):
    """A user's mistake is one line on standard error, never a traceback."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the arguments; what typer prints of wrong ones is made harmless, as they may be names of files."""
        with _harmless_usage_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors of the program's own tree, and of the system, become exit codes."""
        try:
            with _harmless_usage_errors():
                return super().invoke(ctx)
        except TempoError as error:
            print_error(str(error))
            raise typer.Exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            named = f"{error.filename}: " if error.filename is not None else ""
            print_error(f"{named}{error.strerror or error}")
            raise typer.Exit(EXIT_FAILED) from None
        except KeyboardInterrupt:
            kept = "; what was finished is kept" if ctx.invoked_subcommand == "index" else ""
            print_error(f"interrupted{kept}")
            raise typer.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def _harmless_usage_errors() -> Iterator[None]:
    try:
        yield
    except _ArgumentError as error:
        error.message = unbroken(error.message)
        raise


app = typer.Typer(
    name="tempo",
    cls=TempoGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"tempo {version('tempo-archive')}")
        except PackageNotFoundError:
            typer.echo("tempo, run from its source folder")
        raise typer.Exit


@app.callback(epilog="Try it without any model or video: tempo demo")
def root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Ask a video archive: index it once, ask it again and again.

    \b
    tempo index talk.mp4 --library ./lib
    tempo ask "When is the bridge shown?" --library ./lib

    Set TEMPO_LIBRARY and TEMPO_MODEL to leave out --library and --model.
    """
    prepare()


app.command("index")(index.index)
app.command("schedule")(schedule.schedule)
app.command("ask")(ask.ask)
app.command("search")(ask.search)
app.command("status")(library.status)
app.command("verify")(library.verify)
app.command("prune")(library.prune)
app.command("remove")(library.remove)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)


def main() -> None:
    """Entry point of the ``tempo`` program. A polite kill ends like ctrl-C: at once, and clean."""
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to stop
    app()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
