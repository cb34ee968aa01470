"""``tempo status | verify | prune | remove``: the library itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.terminal.options import JsonOption, LibraryOption
from flows.terminal.output import Page, print_json, print_long_json
from tempo_core.errors import UsageError

if TYPE_CHECKING:
    from storage import FailureRecord, LibraryStatus

LEASE_WAIT_S = 60.0
StatesOption = Annotated[
    str | None,
    typer.Option(
        "--states",
        metavar="BYTES",
        help="From now on keep at most so many bytes of states (200GB, 1.5TB); `all`: any number.",
        show_default=False,
    ),
]
_MOST_FAILURES = 20


def status(library: LibraryOption, as_json: JsonOption = False) -> None:
    """Show what a library holds: videos, models, sizes, and what could not be indexed."""
    from flows.failure import is_passing
    from flows.text import one_line
    from storage import open_library

    opened = open_library(library)
    found, failures = opened.status(), opened.failures()
    if as_json:
        sources = (
            {"uri": video.uri, "video_id": video.video_id, "title": video.title, "model": video.facts.model_id,
             "fingerprint": video.fingerprints.features, "duration_s": video.facts.duration_s,
             "segments": video.segment_count, "warnings": video.facts.warnings}
            for video in opened.each_video()
        )  # fmt: skip
        failed = [
            {"uri": one.source.uri, "fingerprint": one.fingerprint, "reason": one.reason, "attempts": one.attempts,
             "step": one.step, "tried_again": is_passing(one.step)}
            for one in failures
        ]  # fmt: skip
        print_long_json({**asdict(found), "failures": failed}, "sources", sources)
        return
    _show_status(found)
    for one in failures[:_MOST_FAILURES]:
        Page().line(f"failed  {one_line(one.source.uri)}  {one_line(one.reason)}{_tries(one)}", style="red")
    if len(failures) > _MOST_FAILURES:
        Page().line(f"... and {len(failures) - _MOST_FAILURES} more failures (--json lists all)")


def verify(library: LibraryOption, as_json: JsonOption = False) -> None:
    """Read everything in a library and compare it with its checksums. Exit code 1 if something is wrong."""
    from flows.text import counted, one_line
    from storage import open_library

    problems = open_library(library).verify()
    if as_json:
        print_json({"ok": not problems, "problems": [asdict(problem) for problem in problems]})
    else:
        for problem in problems:
            Page().line(f"{one_line(problem.subject)}: {one_line(problem.reason)}", style="red")
        Page().line(
            "everything is as it should be" if not problems else counted(len(problems), "problem"), style="bold"
        )
    if problems:
        raise typer.Exit(1)


def prune(library: LibraryOption, states: StatesOption = None, as_json: JsonOption = False) -> None:
    """Free what no video of a library needs any more: replaced and removed ones, after a grace period for readers.

    \b
    tempo prune --library ./lib
    tempo prune --library ./lib --states 200GB

    With a budget of states, those asked about least recently are dropped, here and at the end of each run. Frames stay:
    a question computes the states that it needs from them, with the same answer. What was dropped is freed by a later
    prune, or by the next run that drops more.
    """
    from flows.result import dropped_states
    from flows.text import size
    from storage import open_library

    budget = None if states is None else _budget(states)
    with open_library(library).writer(wait_s=LEASE_WAIT_S) as writer:
        if states is not None:
            writer.set_states_budget(budget)
        freed = writer.prune()  # first: on a full disk it makes the room for a commit
        dropped = writer.keep_to_budget()
    if as_json:
        print_json({"freed_bytes": freed, "dropped_videos": dropped.videos, "dropped_bytes": dropped.bytes})
        return
    if dropped.videos:
        Page().line(dropped_states(dropped))
    Page().line(f"{size(freed)} freed")


def remove(
    videos: Annotated[list[str], typer.Argument(metavar="ID_OR_URI...", help="Videos to forget.", show_default=False)],
    library: LibraryOption,
    as_json: JsonOption = False,
) -> None:
    """Take videos out of a library, under every model. A URI means that file alone, an id all its copies.

    \b
    tempo remove talk.mp4 --library ./lib
    """
    from flows.text import one_line
    from storage import open_library

    opened = open_library(library)
    with opened.writer(wait_s=LEASE_WAIT_S) as writer:
        uris = opened.sources(videos)
        writer.remove(uris)
    for uri in uris:
        if as_json:
            print_json({"uri": uri, "status": "removed"})
        else:
            Page().line(f"removed  {one_line(uri)}")


def _budget(text: str) -> int | None:
    """Bytes, None for any number; UsageError for what is neither."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    if text == "all":
        return None
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise UsageError(f"--states {text!r} is no number of bytes; write 200GB, 1.5 TB, or all") from None


def _tries(failure: FailureRecord) -> str:
    """What is added to the reason where it was not the file's fault."""
    from flows.failure import is_passing

    if not is_passing(failure.step):
        return ""
    tries = "try" if failure.attempts == 1 else "tries"
    return f" (not the file's fault: tried again by later runs; {failure.attempts:,} {tries} so far)"


def _limits(found: LibraryStatus) -> str:
    """What is added to the bytes of states: their budget, what runs keep, and how many videos have none."""
    from flows.text import counted, size

    budget = [] if found.states_budget is None else [f"at most {size(found.states_budget)}"]
    frames_only = ["new videos: frames alone"] if found.keep == "frames" else []
    without = [f"{counted(found.without_states, 'video')} without"] if found.without_states else []
    limits = ", ".join([*budget, *without, *frames_only])
    return f" ({limits})" if limits else ""


def _show_status(found: LibraryStatus) -> None:
    from flows.text import counted, one_line, size, span

    page = Page()
    page.line(f"{one_line(found.uri)}  (schema {found.schema})", style="bold")
    page.line(f"{counted(found.videos, 'video')}, {span(found.hours * 3600)}")
    for model in found.models:
        served = "served by default" if model.is_default else "kept beside"
        contents = f"{counted(model.sources, 'source')} of {counted(model.videos, 'video')}"
        counts = f"{contents}, {counted(model.segments, 'segment')}"
        failed = f", {model.failures} failed" if model.failures else ""
        name = one_line(model.model_id)
        if model.features_model is not None:
            name += f", features by {one_line(model.features_model)}"
        page.line(f"  {name}, spec {one_line(model.spec.name)}: {counts}{failed} ({served})")
    tables = f"tables {size(found.tables_bytes)} in {counted(found.fragments, 'fragment')}"
    page.line(f"states {size(found.states_bytes)}{_limits(found)}, frames {size(found.frames_bytes)}, {tables}")
    if found.pending:
        page.line(f"{counted(found.pending, 'source')} left undone by the last runs: first in the next")
    page.line(f"to prune {size(found.unreferenced_bytes)}")
    if found.free_bytes is not None:
        page.line(f"free on the disk {size(found.free_bytes)}")
