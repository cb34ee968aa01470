"""A run in which nothing is new: no model is loaded, and neither are the libraries that would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tempo_cli import index, small_video

RUN = """
import sys
from flows.reporter import Reporter
from flows.request import IndexRequest
from flows.run.indexing import IndexRun

run = IndexRun(IndexRequest(sources=[sys.argv[1]], library=sys.argv[2], settle_s=0.0), Reporter())
{call}
print("loaded:", *sorted({{"torch", "transformers", "ray", "prefect"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("call", "reported"),
    [
        ("print(run.run().summary.counts['unchanged'])", "1\nloaded:\n"),
        ("plan, _ = run.plan_only(); print(len(plan.settled), len(plan.tasks))", "1 0\nloaded:\n"),
    ],
    ids=["run", "plan"],
)
def test_where_nothing_is_new_no_model_is_loaded(tmp_path: Path, call: str, reported: str) -> None:
    video, library = small_video(tmp_path / "a.mp4"), tmp_path / "library"
    index(library, video)
    command = [sys.executable, "-c", RUN.format(call=call), str(video), str(library)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == reported
