"""The experiment's numbers as tables in Markdown: from the results alone, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.policies import CUTS, POLICIES
from benchmarks.relevance_stats import wilson
from benchmarks.tables import cell, table
from nano.phrasings import KINDS
from nano.world import LONGEST_ROW

Flags = npt.NDArray[np.bool_]
NAMES = {
    "ata": "ATA",
    "ata-4": "ATA, at least 4",
    "even": "even",
    "random": "random",
    "topk": "top segments whole",
    "shuffled": "ATA, scores shuffled",
}
CUT_NAMES = {"head": "first k", "random": "any k", "tail": "last k"}
_PARTS = ("all", "short", "long")
_FOUR = 4  # a quarter of the tokens where a segment has 16
_RESAMPLES, _SEED = 10_000, 41


@dataclass(frozen=True)
class Results:
    """A result file, with its columns as arrays."""

    raw: dict[str, Any]

    def column(self, name: str) -> npt.NDArray[Any]:
        """One fact of all questions."""
        return np.array(self.raw["questions"][name], dtype=object)

    def right(self, setting: str) -> Flags:
        """Which questions were answered rightly in that setting."""
        return np.array([bit == "1" for bit in self.raw["right"][setting]], dtype=np.bool_)

    def share(self, setting: str, of: Flags | None = None) -> tuple[float, float, float]:
        """Accuracy and its 95 % interval, among the questions ``of``."""
        right = self.right(setting) if of is None else self.right(setting)[of]
        return wilson(int(right.sum()), len(right))

    def part(self, name: str) -> Flags:
        """``short``: questions about videos of up to 64 segments, ``long``: about those of 128."""
        is_long: Flags = (self.column("segments") == LONGEST_ROW).astype(np.bool_)
        return {"all": np.ones_like(is_long), "short": ~is_long, "long": is_long}[name]

    def budgets(self, policy: str) -> list[str]:
        """What was measured of a policy or cut, from the smallest."""
        return [name.split("/")[1] for name in self.raw["right"] if name.startswith(f"{policy}/")]

    @property
    def everything(self) -> str:
        """The setting with all tokens (ATA with that budget leaves some to segments that seem irrelevant)."""
        return f"even/{self.budgets('even')[-1]}"

    @property
    def quarter(self) -> str:
        """ATA with a quarter of the tokens."""
        return f"ata/{float(self.budgets('ata')[-1]) / _FOUR:g}"


def tables(raw: dict[str, Any]) -> str:
    """Everything that the experiment says."""
    results = Results(raw)
    sections = [_about(results), *(_policy_table(results, part) for part in _PARTS)]
    sections += [_differences(results), _cut_table(results), *_breakdowns(results)]
    return "\n\n".join(sections)


def policy_numbers(results: Results, policy: str, part: str) -> list[tuple[float, float, float, float]]:
    """(tokens per segment, accuracy, low, high) of a policy over its budgets."""
    of = results.part(part)
    return [(float(budget), *results.share(f"{policy}/{budget}", of)) for budget in results.budgets(policy)]


def cut_numbers(results: Results, way: str) -> list[tuple[float, float, float, float]]:
    """(tokens per segment, accuracy, low, high) of a way of cutting."""
    return [(float(name), *results.share(f"cut-{way}/{name}")) for name in results.budgets(f"cut-{way}")]


def _about(results: Results) -> str:
    runs = results.raw["about"]
    rows = [[key, *(str(run[key]) for run in runs)] for key in runs[0]]
    return "## Run\n\n" + table(["what", *("value" for _ in runs)], rows)


def _policy_table(results: Results, part: str) -> str:
    of = results.part(part)
    rows = []
    for policy in POLICIES:
        cells = (cell(results.share(f"{policy}/{name}", of)) for name in results.budgets(policy))
        rows.append([NAMES[policy], *cells])
    if part == "all":
        spent = results.raw["spent"]
        rows.append(["spent by ATA", *(f"{spent[f'ata/{name}']:.2f}" for name in results.budgets("ata"))])
    header = ["tokens per segment", *results.budgets("ata")]
    title = {"all": "all videos", "short": "videos of up to 64 segments", "long": "videos of 128 segments"}[part]
    return f"## Accuracy, {title} ({int(of.sum())} questions)\n\n" + table(header, rows)


def _differences(results: Results) -> str:
    """Pairs of settings on the same questions; intervals by drawing whole videos again and again."""
    few, most = results.budgets("ata")[1], results.budgets("ata")[-1]
    pairs = [(results.quarter, results.everything), (results.quarter, results.quarter.replace("ata/", "even/"))]
    pairs += [(f"ata/{few}", f"even/{few}"), (f"ata/{few}", f"topk/{few}"), ("ata/1", "topk/1")]
    pairs += [(results.quarter, results.quarter.replace("ata/", "shuffled/")), ("cut-head/4", "cut-tail/4")]
    parts = [results.part("all"), results.part("long")]
    rows = [
        [_setting(one, most), _setting(other, most), *(points(results, one, other, part) for part in parts)]
        for one, other in pairs
    ]
    header = ["setting", "less", "points, all videos", "points, videos of 128 segments"]
    return "## Differences in percentage points\n\n" + table(header, rows)


def _setting(name: str, most: str) -> str:
    policy, budget = name.split("/")
    if policy.startswith("cut-"):
        return f"{CUT_NAMES[policy.removeprefix('cut-')]}, k = {budget}"
    return f"{NAMES[policy]}, " + ("all tokens" if budget == most else f"{budget} a segment")


def points(results: Results, one: str, other: str, of: Flags) -> str:
    """``-0.1 (-0.4 to 0.2)``: the difference in accuracy among the questions ``of``, and its 95 % interval."""
    gain = results.right(one).astype(float) - results.right(other)
    mean, low, high = over_videos(gain[of], results.column("video")[of])
    return f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def over_videos(values: npt.NDArray[np.float64], videos: npt.NDArray[Any]) -> tuple[float, float, float]:
    """The mean of a value of each question and its 95 % interval, by drawing whole videos again and again."""
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    numbers = np.unique(videos.astype(int), return_inverse=True)[1]
    sums, sizes = np.bincount(numbers, values), np.bincount(numbers)
    rng = np.random.default_rng(_SEED)
    drawn = rng.integers(0, len(sums), (_RESAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def _cut_table(results: Results) -> str:
    counts = results.budgets("cut-head")
    rows = [[CUT_NAMES[way], *(cell(results.share(f"cut-{way}/{name}")) for name in counts)] for way in CUTS]
    header = ["memory tokens kept of each segment", *counts]
    return "## Where the answer lies within a segment's memory tokens\n\n" + table(header, rows)


def _breakdowns(results: Results) -> Iterator[str]:
    places = [(f"{place * 10}-{place * 10 + 10} %", results.column("tenth") == place) for place in range(10)]
    lengths = sorted(set(results.column("length")), key=lambda at: [int(number) for number in at.split("x")])
    calm = [("busy", results.column("quiet") == 0), ("quiet", results.column("quiet") == 1)]
    novelty = [
        (f"{said}{'novel' if novel else 'known'}", results.column(name) == novel)
        for name, said in (("novel_pair", "pair of shape and colour: "), ("novel_phrasing", "phrasing: "))
        for novel in (0, 1)
    ]
    yield _breakdown(results, "kind of question", ((kind, results.column("kind") == kind) for kind in KINDS))
    yield _breakdown(results, "place of the answer in the video", places)
    yield _breakdown(results, "length (segments x seconds)", ((at, results.column("length") == at) for at in lengths))
    yield _breakdown(results, "how much happens in the video", calm)
    yield _breakdown(results, "what training never saw", novelty)


def _breakdown(results: Results, title: str, parts: Iterable[tuple[str, npt.NDArray[Any]]]) -> str:
    settings = [name for name in (results.everything, results.quarter) if name in results.raw["right"]]
    rows = []
    for name, flags in parts:
        of = flags.astype(np.bool_)
        rows.append([name, str(int(of.sum())), *(cell(results.share(setting, of)) for setting in settings)])
    shown = {results.everything: "all tokens", results.quarter: "ATA, a quarter of the tokens"}
    return f"## By {title}\n\n" + table([title, "questions", *(shown[name] for name in settings)], rows)
