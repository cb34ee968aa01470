"""Results of an experiment as files: written, joined, and shown again without a model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

RunResults = dict[str, Any]


def add_result_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="results", type=Path, nargs="+", help="results to show instead of measuring")
    parser.add_argument("--figure", type=Path, help="SVG file of the figure")


def show(
    options: argparse.Namespace, measure: Callable[[], RunResults], tables: Callable[[RunResults], str], figure: str
) -> None:
    """Prints the tables of what is measured, or of the results that were named, and draws the figure.

    ``figure``: the module whose ``draw`` does that; it is loaded only then.
    """
    if options.results is None:
        runs = [measure()]
        write_results(options.out, runs[0])
    else:
        runs = [json.loads(path.read_text()) for path in options.results]
    results = joined(runs)
    print(tables(results))
    if options.figure is not None:
        import_module(figure).draw(results, options.figure)
        print(f"written: {options.figure}")


def write_results(path: Path | None, results: dict[str, object]) -> None:
    """The results as JSON, a key a line."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in results.items()]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print(f"written: {path}")


def joined(raws: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Results of several runs over different videos as those of one; ``about`` lists the runs."""
    models = {(raw["about"]["vision_sha256"], raw["about"]["text_sha256"], raw["about"]["seed"]) for raw in raws}
    videos = [video for raw in raws for video in set(raw["questions"]["video"])]
    if len(models) > 1 or len(videos) > len(set(videos)):
        raise SystemExit("these results are of different models or seeds, or of the same videos")
    counts = [len(raw["questions"]["kind"]) for raw in raws]
    spent = {name: [raw["spent"][name] for raw in raws] for name in raws[0]["spent"]}
    return {
        "about": [raw["about"] for raw in raws],
        "spent": {name: float(np.average(values, weights=counts)) for name, values in spent.items()},
        "right": {name: "".join(raw["right"][name] for raw in raws) for name in raws[0]["right"]},
        "questions": {name: [fact for raw in raws for fact in raw["questions"][name]] for name in raws[0]["questions"]},
    }
