"""All that is used of Ray's private parts, for want of public ones; ``tests/flows/test_ray_private.py`` pins each.

The range of ``ray`` in ``pyproject.toml`` names the releases that were tried.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import ray
from ray._private import ray_constants

log = logging.getLogger(__name__)
_worker: Any = ray._private.worker

# An option of tasks with ``num_returns="streaming"``: items that it may be ahead of its reader.
ITEMS_AHEAD_OPTION = "_generator_backpressure_num_objects"
_ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray takes 127.0.0.1 for its node's address, on Linux too


def keep_standard_output_free() -> None:
    """Send to the log what Ray prints of dead workers; no option turns it off."""
    _worker.print_to_stdstream = _log


def stay_on_loopback() -> None:
    """Otherwise Ray takes the machine's own address, even with ``_node_ip_address``, and listens to the network."""
    os.environ[_ONE_MACHINE] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False  # what ``import ray`` read already


def _log(data: Mapping[str, Any], ignore_prefix: bool) -> None:  # noqa: ARG001 - as Ray calls it
    for line in data["lines"]:
        log.debug("%s", line)
