"""The figure of benchmarks/routing.py: accuracy against the visual token budget, moments and whole videos apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.allocation_figure import STYLE, dress, line
from benchmarks.allocation_report import Results
from benchmarks.pair_answers import POLICIES, SHARES
from benchmarks.routing_report import NAMES, PARTS, of_part, policy_rows

_COLOURS = {"rule": "#0072B2", "ata": "#000000", "topk": "#009E73", "even": "#E69F00", "random": "#56B4E9"}
_COLOURS |= {"feature": "#CC79A7"}
_MARKS = {"rule": "o", "ata": "P", "topk": "s", "even": "^", "random": "D", "feature": "v"}


def draw(raw: dict[str, Any], path: Path) -> None:
    """Writes the SVG."""
    results = Results(raw)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.2), facecolor="white", layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, part in zip(panels, PARTS, strict=True):
            for policy in reversed(POLICIES):  # the engine's above the others
                rows = policy_rows(results, policy, part)
                line(axes, rows, NAMES[policy], _COLOURS[policy], _MARKS[policy], 2.2 if policy == "rule" else 1.3)
            dress(axes, f"About {part} ({int(of_part(results, part).sum())} questions)", SHARES)
            axes.set_xlabel("share of the video's visual tokens")
        panels[0].set_ylabel("questions answered rightly")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside lower left", ncols=len(labels) // 2, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
