"""Whether runs are to appear in a Prefect API: found out without importing Prefect where it cannot be configured.

``import prefect`` takes seconds and, without an API, a flow would start a server of its own; so a plain run never does.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from flows.environment import report_nothing
from tempo_core.errors import TempoError, UsageError
from tempo_core.local_paths import with_home

if TYPE_CHECKING:
    from flows.reporter import Reporter
    from flows.request import IndexRequest
    from flows.result import RunReport

ANSWER_DEADLINE_S = 5.0
RUN_LOGS = ("prefect.flow_runs", "prefect.task_runs")
NO_API = """no Prefect server is configured, and a schedule needs one. In another terminal, or as a service:
  DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false prefect server start
then tell this machine where it is, once, and try again:
  prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api"""


def run_index(request: IndexRequest, reporter: Reporter) -> RunReport:
    """Run ``request``, as a flow run where a Prefect API is configured; what is reported is the same."""
    url = configured_api()
    if url is None:
        from flows.run.indexing import IndexRun

        return IndexRun(request, reporter).run()
    check_answers(url)
    _log_to_the_api_only()
    from flows.on_prefect.flow import run_flow

    return run_flow(request, reporter)


def _log_to_the_api_only() -> None:
    """What a run logs is shown here already, and would run into the live view."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not record.name.startswith(RUN_LOGS))


def configured_api() -> str | None:
    """The address of the Prefect API that is set in the environment or in the active Prefect profile."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    if not any(_may_set_an_api(path, sign) for path, sign in _settings_files().items()):
        return None
    report_nothing()
    from prefect.settings import PREFECT_API_URL

    found = PREFECT_API_URL.value()
    return str(found) if found else None


def needed_api() -> str:
    """The configured and answering API; UsageError that says how to have one where there is none."""
    url = configured_api()
    if url is None:
        raise UsageError(NO_API)
    check_answers(url)
    return url


def check_answers(url: str) -> None:
    """TempoError with the way out if the API does not answer within a few seconds."""
    report_nothing()
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.settings import get_current_settings

    # Of its own: Prefect's get_client would start a server where it knows of none.
    api = get_current_settings().api
    client = SyncPrefectClient(
        url,
        auth_string=api.auth_string.get_secret_value() if api.auth_string else None,
        api_key=api.key.get_secret_value() if api.key else None,
        httpx_settings={"timeout": ANSWER_DEADLINE_S},
    )
    with client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise TempoError(
            f"the Prefect API at {url} does not answer ({problem}). Start it (`prefect server start`), or run without "
            "it: unset PREFECT_API_URL, or `prefect config unset PREFECT_API_URL`"
        )


def _settings_files() -> dict[Path, str]:
    """Where Prefect looks for settings besides the environment, and what such a file says if there are any."""
    home = with_home(os.environ.get("PREFECT_HOME") or "~/.prefect")
    profiles = os.environ.get("PREFECT_PROFILES_PATH")
    return {
        with_home(profiles) if profiles else home / "profiles.toml": "PREFECT_API_URL",
        Path(".env"): "PREFECT_",
        Path("prefect.toml"): "",
        Path("pyproject.toml"): "[tool.prefect",
    }


def _may_set_an_api(path: Path, sign: str) -> bool:
    """Whether Prefect must be asked. A cheap look: its own reading may still find that the setting is not active."""
    try:
        return sign in path.read_text(errors="replace")
    except OSError:
        return False
