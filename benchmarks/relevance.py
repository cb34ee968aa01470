"""Relevance against the script: which segments show what is asked about, and which score tells that none does.

    python -m benchmarks.relevance --questions 1200 --device cuda --out benchmarks/results/relevance-h100.json

Every question is read over its own video; beside them, some about things that the video does not show. The score below
which "this was not shown" is the honest answer is chosen on one half of the videos and judged on the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.nano_setting import Setting, add_options, open_setting
from benchmarks.nano_videos import HeldOutVideo, VideoPixels, absent_questions, encoded
from benchmarks.relevance_stats import Flags, Floats, honest_threshold, summary, wilson
from benchmarks.result_files import write_results
from benchmarks.tables import cell, table

_ABSENT_PER_VIDEO = 3


@dataclass(frozen=True)
class Best:
    """The best score of a video's segments for a question, and whether what it is about is shown."""

    video: int
    is_shown: bool
    score: float


@dataclass
class Tally:
    """``scores`` and ``relevant``: per question, per segment."""

    scores: list[Floats] = field(default_factory=list)
    relevant: list[Flags] = field(default_factory=list)
    best: list[Best] = field(default_factory=list)


def _read_video(setting: Setting, tally: Tally, video: HeldOutVideo, pixels: VideoPixels) -> None:
    compressor = setting.checkpoint.compressor
    prefix = compressor.prefill(encoded(setting.checkpoint, pixels).states)
    for question in video.questions:
        scores = compressor.relevance(prefix, question.text).astype(np.float64)
        relevant = np.isin(np.arange(len(scores)), question.relevant)
        tally.scores.append(scores)
        tally.relevant.append(relevant)
        tally.best.append(Best(video.number, bool(relevant.any()), float(scores.max())))
    for text in absent_questions(video, _ABSENT_PER_VIDEO):
        best = float(compressor.relevance(prefix, text).max())
        tally.best.append(Best(video.number, False, best))


def calibration(best: Sequence[Best]) -> dict[str, object]:
    """The honest threshold of the even videos, and what it does to the odd ones; nothing with too few questions."""
    calibrated, judged = (
        [np.array([one.score for one in best if (one.is_shown, one.video % 2) == (there, half)]) for there in (1, 0)]
        for half in (0, 1)
    )
    if not all(len(scores) for scores in (*calibrated, *judged)):
        return {}
    threshold = honest_threshold(*calibrated)
    shown, absent = judged
    kept, refused = int((shown >= threshold).sum()), int((absent < threshold).sum())
    return {
        "threshold": float(f"{threshold:.3g}"),
        "shown": len(shown),
        "shown_found": [round(share, 4) for share in wilson(kept, len(shown))],
        "absent": len(absent),
        "absent_refused": [round(share, 4) for share in wilson(refused, len(absent))],
        "lowest_shown": round(float(shown.min()), 6),
        "highest_absent": round(float(absent.max()), 6),
    }


def _print(relevance: dict[str, object], absence: dict[str, object]) -> None:
    plain = ("segments", "relevant", "auc", "auc_within_a_question")
    print(table(["relevance", "value"], [[name.replace("_", " "), str(relevance[name])] for name in plain]))
    rows: object = relevance["thresholds"]
    assert isinstance(rows, list)
    columns = ("threshold", "precision", "recall")
    print("\n" + table(["score from", *columns[1:]], [[str(row[name]) for name in columns] for row in rows]))
    said = [[name.replace("_", " "), cell(v) if isinstance(v, list) else str(v)] for name, v in absence.items()]
    print("\n" + table(["absence", "value"], said))


def main() -> None:
    """Prints three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, questions=1200)
    setting, tally = open_setting(parser.parse_args()), Tally()
    for video, pixels in setting.read():
        _read_video(setting, tally, video, pixels)
    relevance, absence = summary(tally.scores, tally.relevant), calibration(tally.best)
    _print(relevance, absence)
    write_results(setting.options.out, {"about": setting.about(), "relevance": relevance, "absence": absence})


if __name__ == "__main__":
    main()
