"""What routing by frame pairs is worth, as tables in Markdown: from the results alone, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.allocation_report import Flags, Results, over_videos, points
from benchmarks.pair_answers import POLICIES
from benchmarks.relevance_stats import honest_threshold
from benchmarks.tables import cell, table
from serving.frame_pairs import STANDS_OUT

NAMES = {
    "rule": "as the engine shares",
    "ata": "ATA in pairs, always",
    "feature": "ATA, scores of the stored feature",
    "topk": "top segments whole",
    "even": "evenly spread",
    "random": "random pairs",
}
PARTS = {"a moment": 0, "a whole video": 1}
_THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.01)
_WHOLE = "even/1"


def tables(raw: dict[str, Any]) -> str:
    """Everything that the experiment says."""
    results = Results(raw)
    sections = [_about(results), *(_policies(results, part) for part in PARTS), _differences(results)]
    return "\n\n".join([*sections, *_thresholds(results), _kinds(results)])


def of_part(results: Results, part: str) -> Flags:
    """The questions about a moment, or about a whole video."""
    flags: Flags = (results.column("is_whole") == PARTS[part]).astype(np.bool_)
    return flags


def share(results: Results, setting: str, of: Flags) -> tuple[float, float, float]:
    """Accuracy and its 95 % interval over videos."""
    return over_videos(results.right(setting)[of].astype(float), results.column("video")[of])


def policy_rows(results: Results, policy: str, part: str) -> list[tuple[float, float, float, float]]:
    """(share of the visual tokens, accuracy, low, high) of a policy over its budgets."""
    of = of_part(results, part)
    return [(float(name), *share(results, f"{policy}/{name}", of)) for name in results.budgets(policy)]


def budget_name(name: str) -> str:
    """``1/16``."""
    return f"1/{1 / float(name):g}" if float(name) < 1 else "everything"


def _about(results: Results) -> str:
    runs = results.raw["about"]
    return "## Run\n\n" + table(
        ["what", *("value" for _ in runs)], [[key, *(str(one[key]) for one in runs)] for key in runs[0]]
    )


def _policies(results: Results, part: str) -> str:
    of, budgets = of_part(results, part), results.budgets("rule")
    rows = [[NAMES[way], *(cell(share(results, f"{way}/{name}", of)) for name in budgets)] for way in POLICIES]
    rows.append(
        ["frame pairs given by the engine", *(f"{results.raw['spent'][f'rule/{name}']:.1f}" for name in budgets)]
    )
    header = ["share of the visual tokens", *map(budget_name, budgets)]
    return f"## Right, %, of {int(of.sum())} questions about {part}\n\n" + table(header, rows)


def _differences(results: Results) -> str:
    """On the same questions, in percentage points."""
    rows = []
    for name in results.budgets("rule")[:-1]:
        for other in (f"even/{name}", f"topk/{name}", f"feature/{name}", _WHOLE):
            less = "everything" if other == _WHOLE else NAMES[other.split("/")[0]]
            gains = [points(results, f"rule/{name}", other, of_part(results, part)) for part in PARTS]
            rows.append([budget_name(name), less, *gains])
    header = ["as the engine shares", "less", *(f"points, {part}" for part in PARTS)]
    return "## Differences in percentage points\n\n" + table(header, rows)


def _thresholds(results: Results) -> Iterator[str]:
    """What would be right if the engine spread evenly wherever the best score stands out by less."""
    gaps = results.column("stands_out").astype(float)
    moments, wholes = (gaps[of_part(results, part)] for part in PARTS)
    if not len(moments) or not len(wholes) or len(np.unique(gaps)) < 2:
        return
    best = honest_threshold(moments, wholes)
    rows = []
    for least in sorted({*_THRESHOLDS, round(best, 3)}):
        sorted_right = [f"{100 * (moments >= least).mean():.1f}", f"{100 * (wholes < least).mean():.1f}"]
        accuracy = [
            f"{100 * _ruled(results, gaps, least, name)[of_part(results, part)].mean():.1f}"
            for name in ("0.015625", "0.0625", "0.25")
            for part in PARTS
        ]
        rows.append([f"{least:g}", *sorted_right, *accuracy])
    header = ["stands out by", "moments above, %", "wholes below, %"]
    header += [f"{budget}, {part}" for budget in ("1/64", "1/16", "1/4") for part in PARTS]
    yield (
        f"## Where to spread evenly (now below {STANDS_OUT:g}; {best:.3f} tells the two sorts apart best)\n\n"
        + table(header, rows)
    )


def _ruled(results: Results, gaps: npt.NDArray[np.float64], least: float, name: str) -> Flags:
    return np.where(gaps >= least, results.right(f"ata/{name}"), results.right(f"even/{name}"))


def _kinds(results: Results) -> str:
    names = ["0.015625", "0.0625", "0.25"]
    rows = []
    for kind in dict.fromkeys(results.column("kind")):
        of = (results.column("kind") == kind).astype(np.bool_)
        ways = [f"{way}/{name}" for name in names for way in ("ata", "even")]
        rows.append([kind, str(int(of.sum())), *(cell(share(results, way, of)) for way in [*ways, _WHOLE])])
    header = ["kind", "questions", *(f"{way}, {budget_name(name)}" for name in names for way in ("ATA", "even"))]
    return "## By kind of question\n\n" + table([*header, "everything"], rows)
