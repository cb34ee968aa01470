"""The nightly run as a Prefect flow: ``IndexRun`` as without Prefect, with its logs, states and artifacts there.

How a run ends in Prefect: Completed where nothing failed. Completed too, under the name CompletedWithFailures, where
some videos failed: each has its recorded reason, in the logs and the artifacts, later runs try again what was not the
file's fault, and an automation can listen for the name. Failed where the run itself could not be done, with the reason
as its message.
Only what may pass by itself is tried again (``may_pass``).
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from flows.environment import report_nothing
from flows.reporter import Reporter
from flows.request import IndexRequest, takes_fields
from flows.result import IndexResult, RunReport
from flows.run.indexing import IndexRun
from flows.snapshot import Snapshot
from flows.text import one_line
from tempo_core.errors import LibraryBusy, TempoError

report_nothing()  # before Prefect is imported, which counts its users from then on

from prefect import Task, flow, get_run_logger, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.exceptions import FailedRun  # noqa: E402
from prefect.runtime import deployment, flow_run  # noqa: E402
from prefect.states import Completed, Failed  # noqa: E402

from flows.on_prefect.artifacts import send_artifacts  # noqa: E402

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


@dataclass
class _Call:
    """A flow run that this process asked for: where it reports beside Prefect, and how it ended."""

    reporter: Reporter
    report: RunReport | None = None
    error: TempoError | OSError | None = None


_call: ContextVar[_Call | None] = ContextVar("call", default=None)


class PrefectReporter(Reporter):
    """Reports to the run's log in Prefect too: failures as errors, and nothing of videos that needed nothing."""

    def __init__(self, beside: Reporter) -> None:
        self._beside, self._log = beside, get_run_logger()

    def notice(self, text: str) -> None:
        self._log.info(text)
        self._beside.notice(text)

    def snapshot(self, snapshot: Snapshot) -> None:
        self._beside.snapshot(snapshot)

    def settled(self, result: IndexResult) -> None:
        if (level := LEVELS.get(result.status)) is not None:
            self._log.log(level, f"{result.status}: {one_line(result.uri)}: {result.details}")
        for warning in result.warnings if result.status == "indexed" else ():
            self._log.warning("%s: %s", one_line(result.uri), warning)
        self._beside.settled(result)


def run_flow(request: IndexRequest, reporter: Reporter) -> RunReport:
    """The flow in this process; results go to ``reporter``, and errors are raised, as by ``IndexRun``."""
    call = _Call(reporter)
    token = _call.set(call)
    try:
        index_library.with_options(validate_parameters=False)(**request.model_dump())
    except FailedRun:
        if call.error is None:
            raise
    finally:
        _call.reset(token)
    if call.error is not None:
        raise call.error
    if call.report is None:
        raise TempoError("Prefect did not let the run begin; its UI tells why (cancelled, or paused there)")
    return call.report


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
@takes_fields
def index_library(**parameters: Any) -> State[Any]:
    """Read the new and changed videos of the sources into the library; what could not be is listed with its reason."""
    request = IndexRequest.checked(parameters)
    call = _call.get() or _Call(Reporter())
    if flow_run.ui_url:
        call.reporter.notice(f"in Prefect: {flow_run.ui_url}")
    failed = _attempts(IndexRun(request, PrefectReporter(call.reporter)), call)(return_state=True)
    if call.report is None:
        return Failed(message=failed.message)
    send_artifacts(call.report)
    return _end_state(call.report)


def _attempts(run: IndexRun, call: _Call) -> Task[[], State[Any] | None]:
    """The run as a task, which Prefect tries again where that may help; at a terminal the user does that."""

    def index_videos() -> State[Any] | None:
        call.error = None
        try:
            call.report = run.run()
        except (TempoError, OSError) as error:  # a reason for the user, not a traceback
            call.error = error
            return Failed(message=str(error))
        return None

    return task(
        name="index-videos",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS_S) if deployment.id else 0,
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=lambda _task, _run, _state: may_pass(call.error),
    )(index_videos)


def _end_state(report: RunReport) -> State[Any]:
    message = report.summary.details
    if report.summary.failed_now:
        return Completed(name=WITH_FAILURES, message=f"{message}; the reasons are in the artifacts")
    return Completed(message=message)
