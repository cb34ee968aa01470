"""Accuracy against the token budget, for Adaptive Token Allocation and the alternatives, on held-out nano videos.

    python -m benchmarks.allocation --questions 1200 --device cuda --out benchmarks/results/allocation-h100.json
    python -m benchmarks.allocation --from benchmarks/results/allocation-*.json --figure docs/allocation.svg

Each question is read once and all memory tokens are computed once; memory tokens are causal, so that the first k of
them equal what computing k gives. Every setting (policy and budget, cut and length) then prompts the answering LLM with
some of them. What it says counts as right only where it is the script's answer, letter by letter. The second command
needs no model: tables to standard output, the figure to a file.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.allocation_report import tables
from benchmarks.batched_answers import Kept, WholePrompt
from benchmarks.nano_setting import Check, Setting, add_options, ask_whole, open_setting
from benchmarks.nano_videos import HeldOutVideo, VideoPixels, encoded
from benchmarks.policies import every_setting
from benchmarks.result_files import add_result_options, show
from nano.questions import Question


@dataclass
class Tally:
    """What is counted, a list of one entry per question each; ``right``: by setting, "1" or "0" per question."""

    questions: dict[str, list[object]] = field(default_factory=dict)
    right: dict[str, list[str]] = field(default_factory=dict)
    spent: dict[str, list[float]] = field(default_factory=dict)
    check: Check = field(default_factory=Check)

    def spend(self, kept: dict[str, Kept]) -> None:
        """The memory tokens per segment that each setting keeps."""
        for setting, flags in kept.items():
            self.spent.setdefault(setting, []).append(float(flags.sum(axis=1).mean()))

    def add(self, video: HeldOutVideo, question: Question, told: dict[str, str]) -> None:
        """What was answered to one question in each setting."""
        for setting, text in told.items():
            self.right.setdefault(setting, []).append("1" if text == question.answer else "0")
        facts: dict[str, object] = {
            "kind": question.kind,
            "video": video.number,
            "quiet": int(video.is_quiet),
            "length": video.length,
            "segments": len(video.script.scenes),
            "tenth": _tenth(question, len(video.script.scenes)),
            "novel_phrasing": int(question.novel_phrasing),
            "novel_pair": int(question.novel_pair),
            "text": question.text,
            "answer": question.answer,
            "told": next(text for setting, text in reversed(told.items()) if setting.startswith("even/")),
        }
        for name, fact in facts.items():
            self.questions.setdefault(name, []).append(fact)

    def results(self, setting: Setting) -> dict[str, object]:
        """As JSON values."""
        return {
            "about": {**setting.about(), "same_as_alone": f"{self.check.same} of {self.check.of}"},
            "spent": {name: round(float(np.mean(tokens)), 3) for name, tokens in self.spent.items()},
            "right": {name: "".join(bits) for name, bits in self.right.items()},
            "questions": self.questions,
        }


def _tenth(question: Question, segments: int) -> int | None:
    """Which tenth of the video holds the answer; None where several places do, or none."""
    if len(question.evidence) == 1 or question.kind == "after":
        return question.evidence[0] * 10 // segments
    return None


def _ask_video(setting: Setting, tally: Tally, video: HeldOutVideo, pixels: VideoPixels) -> None:
    checkpoint = setting.checkpoint
    states = encoded(checkpoint, pixels)
    prefix = checkpoint.compressor.prefill(states.states)
    for number, question in enumerate(video.questions):
        rng = np.random.default_rng([setting.options.seed, video.number, number])
        read, memory, whole = ask_whole(checkpoint, prefix, question.text, states.tag_times_s)
        kept = every_setting(read.scores, (checkpoint.min_tokens, checkpoint.compressor.max_memory_tokens), rng)
        told = _answers(setting, whole, kept)
        name = list(kept)[(tally.check.of * 11) % len(kept)]
        cut_memory = [tokens[flags] for tokens, flags in zip(memory, kept[name], strict=True)]
        tally.check.compare(checkpoint, question.text, states.tag_times_s, cut_memory, told[name])
        tally.add(video, question, told)
        tally.spend(kept)


def _answers(setting: Setting, whole: WholePrompt, kept: dict[str, Kept]) -> dict[str, str]:
    """The answer in each setting; settings that keep the same tokens are answered once."""
    keys = {name: flags.tobytes() for name, flags in kept.items()}
    different = {keys[name]: flags for name, flags in kept.items()}
    texts = setting.answers.texts([whole.cut(flags) for flags in different.values()])
    told = dict(zip(different, texts, strict=True))
    return {name: told[key] for name, key in keys.items()}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The experiment, its results as JSON values."""
    setting = open_setting(options)
    tally = Tally()
    for video, pixels in setting.read():
        _ask_video(setting, tally, video, pixels)
    return tally.results(setting)


def main() -> None:
    """Measures or reads results; prints tables, draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, questions=1200)
    add_result_options(parser)
    options = parser.parse_args()
    show(options, lambda: run(options), tables, "benchmarks.allocation_figure")


if __name__ == "__main__":
    main()
