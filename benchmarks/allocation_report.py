"""The experiment's numbers as tables in Markdown: from the results alone, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.policies import CUTS, POLICIES
from benchmarks.relevance_stats import wilson
from nano.phrasings import KINDS
from nano.world import LONGEST_ROW

Flags = npt.NDArray[np.bool_]
NAMES = {
    "ata": "ATA",
    "ata-1": "ATA, at least 1",
    "even": "even",
    "random": "random",
    "topk": "top segments whole",
    "shuffled": "ATA, scores shuffled",
}
CUT_NAMES = {"head": "first k", "random": "any k", "tail": "last k"}
_PARTS = ("all", "short", "long")
_FOUR = 4  # a quarter of the tokens where a segment has 16


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
        return f"ata/{self.raw['about']['memory_tokens'] / _FOUR:g}"


def tables(raw: dict[str, Any]) -> str:
    """Everything that the experiment says."""
    results = Results(raw)
    sections = [_about(results), *(_policy_table(results, part) for part in _PARTS)]
    sections += [_cut_table(results), *_breakdowns(results), _relevance_table(raw["relevance"])]
    return "\n\n".join(sections)


def policy_numbers(results: Results, policy: str, part: str) -> list[tuple[float, float, float, float]]:
    """(tokens per segment, accuracy, low, high) of a policy over its budgets."""
    of = results.part(part)
    return [(float(budget), *results.share(f"{policy}/{budget}", of)) for budget in results.budgets(policy)]


def cut_numbers(results: Results, way: str) -> list[tuple[float, float, float, float]]:
    """(tokens per segment, accuracy, low, high) of a way of cutting."""
    return [(float(name), *results.share(f"cut-{way}/{name}")) for name in results.budgets(f"cut-{way}")]


def _about(results: Results) -> str:
    about = results.raw["about"]
    rows = [[key, str(value)] for key, value in about.items()]
    return "## Run\n\n" + _table(["what", "value"], rows)


def _policy_table(results: Results, part: str) -> str:
    of = results.part(part)
    rows = []
    for policy in POLICIES:
        cells = (_cell(results.share(f"{policy}/{name}", of)) for name in results.budgets(policy))
        rows.append([NAMES[policy], *cells])
    spent = results.raw["spent"]
    rows.append(["spent by ATA", *(f"{spent[f'ata/{name}']:.2f}" for name in results.budgets("ata"))])
    header = ["tokens per segment", *results.budgets("ata")]
    title = {"all": "all videos", "short": "videos of up to 64 segments", "long": "videos of 128 segments"}[part]
    return f"## Accuracy, {title} ({int(of.sum())} questions)\n\n" + _table(header, rows)


def _cut_table(results: Results) -> str:
    counts = results.budgets("cut-head")
    rows = [[CUT_NAMES[way], *(_cell(results.share(f"cut-{way}/{name}")) for name in counts)] for way in CUTS]
    header = ["memory tokens kept of each segment", *counts]
    return "## Where the answer lies within a segment's memory tokens\n\n" + _table(header, rows)


def _breakdowns(results: Results) -> Iterator[str]:
    places = [(f"{place * 10}-{place * 10 + 10} %", results.column("tenth") == place) for place in range(10)]
    lengths = list(dict.fromkeys(results.column("length")))
    novelty = [
        (f"{said}{'novel' if novel else 'known'}", results.column(name) == novel)
        for name, said in (("novel_pair", "pair of shape and colour: "), ("novel_phrasing", "phrasing: "))
        for novel in (0, 1)
    ]
    yield _breakdown(results, "kind of question", ((kind, results.column("kind") == kind) for kind in KINDS))
    yield _breakdown(results, "place of the answer in the video", places)
    yield _breakdown(results, "length (segments x seconds)", ((at, results.column("length") == at) for at in lengths))
    yield _breakdown(results, "what training never saw", novelty)


def _breakdown(results: Results, title: str, parts: Iterable[tuple[str, npt.NDArray[Any]]]) -> str:
    settings = [name for name in (results.everything, results.quarter) if name in results.raw["right"]]
    rows = []
    for name, flags in parts:
        of = flags.astype(np.bool_)
        rows.append([name, str(int(of.sum())), *(_cell(results.share(setting, of)) for setting in settings)])
    shown = {results.everything: "all tokens", results.quarter: "ATA, a quarter of the tokens"}
    return f"## By {title}\n\n" + _table([title, "questions", *(shown[name] for name in settings)], rows)


def _relevance_table(relevance: dict[str, Any]) -> str:
    plain = ("segments", "relevant", "auc", "auc_within_a_question", "auc_present_absent")
    rows = [[name.replace("_", " "), str(relevance.get(name))] for name in plain]
    rows += [[f"honest: {name.replace('_', ' ')}", str(value)] for name, value in relevance.get("honest", {}).items()]
    scored = [[str(row[name]) for name in ("threshold", "precision", "recall")] for row in relevance["thresholds"]]
    best = [[f"thing {there}", *map(str, relevance[f"best_score_{there}"].values())] for there in ("present", "absent")]
    header = ["best score in the video", *relevance["best_score_present"]]
    parts = [_table(["relevance", "value"], rows), _table(["score from", "precision", "recall"], scored)]
    return "## Relevance against the script\n\n" + "\n\n".join([*parts, _table(header, best)])


def _cell(share: tuple[float, float, float]) -> str:
    """``93.1 (91.2-94.6)`` in per cent."""
    return "-" if np.isnan(share[0]) else f"{share[0]:.1%} ({share[1]:.1%}-{share[2]:.1%})".replace("%", "")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
