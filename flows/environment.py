"""What must be set before any library is imported: no library reports home, only what concerns the user is printed,
and a model on the CPU leaves the cores to the decoders while it waits."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

from flows.text import clean, unbroken

# Defaults: a variable that is set already keeps its value.
QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "LANCE_LOG": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "passive",  # threads that spin between products take cores from ffmpeg (benchmarks/LOG.md)
}


def report_nothing() -> None:
    """Set the environment's defaults; before the libraries that read them are imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


class _HarmlessFormatter(logging.Formatter):
    """A message is one line, and nothing in it steers a terminal: it may hold the name of a file."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class looks for this name
        return unbroken(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return clean(super().formatException(ei))


def prepare() -> None:
    """Set the environment's defaults and send logs and warnings to standard error."""
    report_nothing()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_HarmlessFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # a dependency's deprecations do not concern the user
