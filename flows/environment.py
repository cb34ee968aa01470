"""What must be set before any library is imported: no library reports home, only what concerns the user is printed,
and a model on the CPU leaves the cores to the decoders while it waits."""

from __future__ import annotations

import logging
import os
import sys
import warnings

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


def prepare() -> None:
    """Set the environment's defaults and send logs and warnings to standard error."""
    report_nothing()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # a dependency's deprecations do not concern the user
