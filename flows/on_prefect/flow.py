"""The nightly run as a Prefect flow: ``run_index`` as without Prefect, with its logs, states and artifacts there.

How a run ends in Prefect: Completed where nothing failed. Completed too, under the name CompletedWithFailures, where
some videos failed: each has its recorded reason, in the logs and the artifacts, running again would not mend them, and
an automation can listen for the name. Failed where the run itself could not be done, with the reason as its message.
Only what may pass by itself is tried again (``may_pass``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from flows.environment import report_nothing
from flows.on_prefect.parameters import (
    Hours,
    LibraryPlace,
    RayPlace,
    Seconds,
    SourceNames,
    SpecName,
    TimeOfDay,
)
from flows.result import IndexResult, RunReport
from flows.run.clock import deadline
from flows.run.session import Wish, run_index
from flows.terminal.output import Page
from flows.text import counted, one_line, size, span
from tempo_core.errors import LibraryBusy, TempoError

report_nothing()  # before Prefect is imported, which counts its users from then on

from prefect import Task, flow, get_run_logger, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.exceptions import FailedRun  # noqa: E402
from prefect.runtime import deployment, flow_run  # noqa: E402
from prefect.states import Completed, Failed  # noqa: E402

from flows.on_prefect.artifacts import send_artifacts  # noqa: E402

if TYPE_CHECKING:
    from tempo_core import Checkpoint

RETRY_DELAYS_S = [60.0, 300.0, 900.0]
WITH_FAILURES = "CompletedWithFailures"
LEVELS: dict[str, int] = {
    "indexed": logging.INFO,
    "duplicate": logging.INFO,
    "failed": logging.ERROR,
    "failed-before": logging.WARNING,
    "pending": logging.WARNING,
    "gone": logging.WARNING,
}

Say = Callable[[str], None]
Shown = Callable[[IndexResult, Page], None]


@dataclass
class Attended:
    """A run that has been asked for: what it is told to, and how it ended."""

    wish: Wish
    say: Say
    shown: Shown
    readable: bool = False
    checkpoint: Checkpoint | None = None
    report: RunReport | None = None
    error: TempoError | OSError | None = None


_attended: ContextVar[Attended | None] = ContextVar("attended", default=None)


def run_flow(wish: Wish, say: Say, shown: Shown, readable: bool, checkpoint: Checkpoint | None) -> RunReport:
    """The flow in this process, told as ``run_index`` tells it; errors are those of ``run_index``."""
    attended = Attended(wish, say, shown, readable, checkpoint)
    token = _attended.set(attended)
    try:
        index_library.with_options(validate_parameters=False)(**_parameters(wish))
    except FailedRun:
        if attended.error is None:
            raise
    finally:
        _attended.reset(token)
    if attended.error is not None:
        raise attended.error
    if attended.report is None:
        raise TempoError("Prefect did not let the run begin; its UI says why (cancelled, or paused there)")
    return attended.report


def may_pass(error: BaseException | None) -> bool:
    """Whether trying again later may help: another run holds the library, or S3 could not be reached.

    A source, a model or an argument that is wrong stays wrong.
    """
    if isinstance(error, LibraryBusy):
        return True
    cause = error.__cause__ if isinstance(error, TempoError) else None
    return isinstance(cause, (TimeoutError, ConnectionError)) or _is_of_the_network(cause)


def _is_of_the_network(cause: BaseException | None) -> bool:
    from botocore.exceptions import ConnectionError as S3ConnectionError
    from botocore.exceptions import HTTPClientError

    from storage.stores.s3_client import status_code

    status = status_code(cause)
    return isinstance(cause, (S3ConnectionError, HTTPClientError)) or (status is not None and status >= 500)


def _run_name() -> str:
    """The library and the time, by this machine's clock."""
    library = str(flow_run.parameters.get("library", ""))
    return f"{PurePosixPath(library).name or library}, {datetime.now().astimezone():%Y-%m-%d %H:%M}"


@flow(name="index-library", flow_run_name=_run_name, persist_result=False)
def index_library(  # noqa: PLR0913, PLR0917 - each is a field of Prefect's form
    sources: SourceNames,
    library: LibraryPlace,
    spec: SpecName | None = None,
    model: str | None = None,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    settle_s: Seconds | None = None,
    retry_failed: bool = False,
    until: TimeOfDay | None = None,
    max_hours: Hours | None = None,
    ray: RayPlace = "auto",
) -> State[Any]:
    """Read the new and changed videos of the sources into the library; what could not be is listed with its reason."""
    attended = _attended.get()
    if attended is None:
        wish = Wish(
            sources=tuple(sources),
            library=library,
            model=model,
            spec=spec,
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            retry_failed=retry_failed,
            until=deadline(until, max_hours, datetime.now().astimezone()),
            ray=ray,
        )
        wish = replace(wish, settle_s=settle_s) if settle_s is not None else wish
        attended = Attended(wish, get_run_logger().info, lambda _result, _page: None)
    elif flow_run.ui_url:
        attended.say(f"in Prefect: {flow_run.ui_url}")
    failed = _attempts(attended)(return_state=True)
    if attended.report is None:
        return Failed(message=failed.message)
    send_artifacts(attended.report)
    return _ended(attended.report)


def _parameters(wish: Wish) -> dict[str, Any]:
    """What the flow run is shown to have been asked for."""
    return {
        "sources": list(wish.sources),
        "library": wish.library,
        "spec": wish.spec,
        "model": wish.model,
        "include": list(wish.include),
        "exclude": list(wish.exclude),
        "settle_s": wish.settle_s,
        "retry_failed": wish.retry_failed,
        "until": f"{wish.until:%H:%M}" if wish.until is not None else None,
        "ray": wish.ray,
    }


def _attempts(attended: Attended) -> Task[[], State[Any] | None]:
    """The run as a task, which Prefect tries again where that may help; at a terminal the user does that."""

    def index_videos() -> State[Any] | None:
        attended.error = None
        try:
            attended.report = run_index(
                attended.wish, attended.say, _logged(attended.shown), attended.readable, attended.checkpoint
            )
        except (TempoError, OSError) as error:  # a reason for the user, not a traceback
            attended.error = error
            return Failed(message=str(error))
        return None

    return task(
        name="index-videos",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS_S) if deployment.id else 0,
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=lambda _task, _run, _state: may_pass(attended.error),
    )(index_videos)


def _logged(shown: Shown) -> Shown:
    """Each settled video in the run's log too: failures as errors, what needed nothing not at all."""
    logger = get_run_logger()

    def log_and_show(result: IndexResult, page: Page) -> None:
        level = LEVELS.get(result.status)
        if level is not None:
            logger.log(level, told(result))
        for warning in result.warnings if result.status == "indexed" else ():
            logger.warning("%s: %s", one_line(result.uri), warning)
        shown(result, page)

    return log_and_show


def told(result: IndexResult) -> str:
    """What became of one video, as a line."""
    if result.status not in {"indexed", "duplicate"}:
        return f"{result.status}: {one_line(result.uri)}: {result.reason or ''}"
    figures = f"{counted(result.segments, 'segment')}, {size(result.state_bytes)}, {span(result.seconds)}"
    return f"{result.status}: {one_line(result.uri)}: {figures}"


def _ended(report: RunReport) -> State[Any]:
    counts = ", ".join(f"{count:,} {status}" for status, count in report.summary.counts.items() if count)
    message = (
        f"{counts or 'nothing to do'}; {counted(report.summary.segments, 'segment')} in {span(report.summary.seconds)}"
    )
    if report.summary.failed_now:
        return Completed(name=WITH_FAILURES, message=f"{message}; the reasons are in the artifacts")
    return Completed(message=message)
