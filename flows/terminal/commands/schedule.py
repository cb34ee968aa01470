"""``tempo schedule``: run the index every night, as a deployment of the Prefect flow that this process serves."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from flows.request import LIST_SIGN, IndexRequest
from flows.terminal.options import takes_request
from flows.terminal.output import notice
from tempo_core.errors import LibraryNotFound, LibraryOutdated, UsageError
from tempo_core.local_paths import local_path

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.schedules import Schedule

CronOption = Annotated[
    str,
    typer.Option("--cron", metavar="CRON", help='When to run: "0 1 * * *" is each night at one.', show_default=False),
]
ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--timezone", metavar="ZONE", help="Of --cron: Europe/Vienna. Default: this machine's.", show_default=False
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="Of the deployment. Default: from the library.", show_default=False),
]


@takes_request
def schedule(request: IndexRequest, cron: CronOption, timezone: ZoneOption = None, name: NameOption = None) -> None:
    """Run `tempo index` by the clock, for as long as this command runs; Prefect's UI shows each run.

    \b
    tempo schedule /archive --library /srv/lib --cron "0 1 * * *" --until 06:00
    tempo schedule s3://bucket/videos/ --library s3://bucket/lib --cron "30 0 * * mon-fri" --timezone Europe/Vienna

    Needs a Prefect server (`prefect server start`). One run of a library at a time: another one waits for it. Ctrl-C
    ends the schedule, and a run under way; what was finished is kept.
    """
    from flows.on_prefect.api import needed_api

    request = _absolute(request)
    _expect_sources(request.sources)
    url = needed_api()
    times = _checked_schedule(cron, timezone)
    _expect_usable_library(request.library)
    title = _checked_name(name or deployment_name(request.library))
    notice(f"index-library/{title}: at {cron!r}, {times.timezone}; Prefect at {url}; ctrl-C ends it")
    _serve(title, times, request.model_dump())


def deployment_name(library: str) -> str:
    """The library's address as a name that Prefect accepts and no other library has: /srv/lib is srv-lib.

    Where the name alone could be another address's too (/srv/my-lib), digits of the address's SHA-256 follow it.
    """
    address = library.rstrip("/") if library.startswith("s3://") else str(local_path(library))
    name = re.sub(r"[^\w.]+", "-", address).strip("-.") or "library"
    plain = f"/{name.replace('-', '/')}"
    if address == (plain.replace("/s3/", "s3://", 1) if plain.startswith("/s3/") else plain):
        return name
    return f"{name}-{hashlib.sha256(os.fsencode(address)).hexdigest()[:8]}"


def _absolute(request: IndexRequest) -> IndexRequest:
    """The request with absolute paths, since a run has another working directory."""
    model = request.model
    is_folder = model is not None and local_path(model).is_dir()
    return request.model_copy(
        update={
            "sources": [_absolute_name(source) for source in request.sources],
            "library": _absolute_name(request.library),
            "model": _absolute_name(model) if model is not None and is_folder else model,
        }
    )


def _absolute_name(name: str) -> str:
    if name.startswith(LIST_SIGN):
        return LIST_SIGN + _absolute_name(name.removeprefix(LIST_SIGN))
    return name if "://" in name else str(local_path(name))


def _expect_sources(names: list[str]) -> None:
    """UsageError for a local name that is not there: better now than at night. Patterns may match something by then."""
    for name in names:
        path = name.removeprefix(LIST_SIGN)
        if "://" not in path and not glob.has_magic(path) and not Path(path).exists():
            raise UsageError(f"{path}: no such file or folder")


def _checked_schedule(cron: str, timezone: str | None) -> Schedule:
    """UsageError for a cron expression that is not valid, or a time zone that is not known."""
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.schedules import Cron
    from pydantic import ValidationError
    from tzlocal import get_localzone_name

    zone = timezone or get_localzone_name() or "UTC"
    try:
        CronSchedule(cron=cron, timezone=zone)
    except ValidationError as error:
        wrong = str(error.errors()[0]["loc"][0])
        given, way_out = (
            (timezone, "name one as Europe/Vienna")
            if wrong == "timezone"
            else (cron, 'five fields, minute hour day month weekday: "0 1 * * *" is each night at one')
        )
        raise UsageError(f"--{wrong} {given!r} cannot be used; {way_out}") from None
    return Cron(cron, timezone=zone)


def _expect_usable_library(location: str) -> None:
    """The errors of a library that is there and cannot be used."""
    from storage import open_library

    try:
        open_library(location)
    except LibraryNotFound:
        notice(f"{location}: no library there yet; the first run makes it")
    except LibraryOutdated:
        notice(f"{location}: of an older schema; the first run brings it up to date")


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[^/%&<>]+", name):
        raise UsageError(f"--name {name!r}: Prefect takes no / % & < > in a name")
    return name


def _serve(name: str, times: Schedule, parameters: dict[str, Any]) -> None:
    """Until ctrl-C or SIGTERM; Prefect then ends a run under way and pauses the schedule."""
    import asyncio

    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.types.entrypoint import EntrypointType

    from flows.on_prefect.flow import index_library
    from flows.on_prefect.runner import PoliteRunner

    made = index_library.to_deployment(
        name,
        schedule=times,
        paused=False,  # as the end of an earlier `tempo schedule` left it
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        parameters=parameters,
        entrypoint_type=EntrypointType.MODULE_PATH,  # the installed package, wherever this was called
        tags=["tempo"],
    )
    logging.getLogger("prefect.runner.state_proposer").setLevel(logging.WARNING)  # a line per look while a run waits
    runner = PoliteRunner()
    runner.add_deployment(cast("RunnerDeployment", made))
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(runner.start())
    notice(f"stopped; the schedule of index-library/{name} is paused")
