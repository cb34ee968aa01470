"""The private parts of Ray that are used: a release that changes one fails here, before it fails a run.

Where one of these fails, look at ``flows/on_ray/ray_private.py`` and at the range of ``ray`` in ``pyproject.toml``.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import ray
from ray._common.ray_option_utils import task_options
from ray._private import ray_constants

from flows.on_ray.ray_private import ITEMS_AHEAD_OPTION, keep_standard_output_free, stay_on_loopback

private: Any = ray._private


def test_a_stream_can_be_stopped_while_it_is_ahead() -> None:
    assert ITEMS_AHEAD_OPTION in task_options


def test_ray_still_prints_by_the_function_that_is_replaced(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    printed_by = private.worker.print_to_stdstream
    monkeypatch.setattr(private.worker, "print_to_stdstream", printed_by)  # put back at the end
    assert list(inspect.signature(printed_by).parameters) == ["data", "ignore_prefix"]
    assert "print_to_stdstream(" in inspect.getsource(private.worker.listen_error_messages)
    keep_standard_output_free()
    private.worker.print_to_stdstream(
        {"lines": ["a worker died"], "pid": "raylet", "is_err": False}, ignore_prefix=False
    )
    assert capfd.readouterr() == ("", "")


def test_a_node_of_one_machine_still_takes_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    monkeypatch.setenv(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "1")
    stay_on_loopback()
    assert private.services.get_node_ip_address() == "127.0.0.1"
    assert private.ray_constants.env_bool(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, True) is False
