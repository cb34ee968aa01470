"""A child process is waited for so long and no longer, whatever it writes meanwhile."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from tempo_core.decoding import child as child_module
from tempo_core.decoding.child import Child, Deadline
from tempo_core.errors import DecodeTimeout


def test_a_child_that_gives_little_for_too_long_is_killed() -> None:
    trickle = ["/bin/sh", "-c", "while echo; do sleep 0.05; done"]
    with Child(trickle, Deadline(total_s=0.6, stall_s=60), "the program") as child:
        with pytest.raises(DecodeTimeout, match="the program did not finish within 1 s and was stopped"):
            list(iter(child.read, b""))
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)


def test_only_waiting_for_a_child_counts_towards_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    busy_s = 0.0
    monkeypatch.setattr(child_module, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + busy_s))
    pausing = ["/bin/sh", "-c", "for word in first second third; do echo $word; sleep 0.2; done"]
    with Child(pausing, Deadline(total_s=60, stall_s=60), "the program") as child:
        assert child.read() == b"first\n"
        busy_s = 1000.0  # a consumer that takes its time
        assert (child.read(), child.read()) == (b"second\n", b"third\n")
