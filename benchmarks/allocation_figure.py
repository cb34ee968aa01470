"""The experiment's figure: accuracy against the token budget on short and on long videos, and where tokens are cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.allocation_report import CUT_NAMES, NAMES, Results, cut_numbers, policy_numbers
from benchmarks.policies import CUTS, POLICIES

# Okabe and Ito's colours, which the colour-blind tell apart; the method in the strongest one, and with its own mark.
_COLOURS = {
    "ata": "#0072B2",
    "ata-4": "#000000",
    "topk": "#009E73",
    "even": "#E69F00",
    "random": "#56B4E9",
    "shuffled": "#CC79A7",
}
_MARKS = {"ata": "o", "ata-4": "P", "topk": "s", "even": "^", "random": "D", "shuffled": "v"}
_CUT_COLOURS = {"head": "#0072B2", "random": "#56B4E9", "tail": "#D55E00"}
_CUT_MARKS = {"head": "o", "random": "D", "tail": "v"}
_TITLES = {"short": "Up to 64 segments", "long": "128 segments"}
_INK, _PALE = "#222222", "#dddddd"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "svg.hashsalt": "tempo",  # the same numbers give the same bytes
}
Row = tuple[float, float, float, float]


def draw(raw: dict[str, Any], path: Path) -> None:
    """Writes the SVG."""
    results = Results(raw)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 3.9), facecolor="white", layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        for axes, part in zip(panels, ("short", "long"), strict=False):
            _policies(axes, results, part)
        _cuts(panels[2], results)
        panels[0].set_ylabel("questions answered rightly")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside lower left", ncols=len(labels), frameon=False)
        panels[2].legend(loc="lower right", frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _policies(axes: Axes, results: Results, part: str) -> None:
    for policy in reversed(POLICIES):  # the method above the others
        rows = policy_numbers(results, policy, part)
        line(axes, rows, NAMES[policy], _COLOURS[policy], _MARKS[policy], 2.2 if policy == "ata" else 1.3)
    ticks = [float(budget) for budget in results.budgets("ata")]
    dress(axes, f"{_TITLES[part]} ({int(results.part(part).sum())} questions)", ticks)
    axes.set_xlabel("memory tokens per segment, on average")


def _cuts(axes: Axes, results: Results) -> None:
    for way in CUTS:
        line(axes, cut_numbers(results, way), CUT_NAMES[way], _CUT_COLOURS[way], _CUT_MARKS[way], 1.6)
    dress(axes, "Which memory tokens carry the answer", [row[0] for row in cut_numbers(results, "head")])
    axes.set_xlabel("k memory tokens of each segment")


def line(axes: Axes, rows: Sequence[Row], name: str, colour: str, mark: str, width: float) -> None:
    """Accuracy with its 95 % interval; a part without any question has no line."""
    budgets, shares, lows, highs = np.array(rows).T
    axes.plot(budgets, shares, color=colour, marker=mark, markersize=4, linewidth=width, label=name, zorder=3)
    axes.fill_between(budgets, lows, highs, color=colour, alpha=0.15, linewidth=0)


def dress(axes: Axes, title: str, ticks: Sequence[float]) -> None:
    """Title, ticks and per cent."""
    axes.set_title(title, loc="left", fontsize=9.5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [_tick(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))
    axes.grid(axis="y", color=_PALE, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def _tick(tokens: float) -> str:
    return f"{tokens:g}" if tokens >= 1 else f"1/{1 / tokens:g}"
