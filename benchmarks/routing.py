"""Accuracy against the visual token budget, for frame pairs chosen by relevance and otherwise, on held-out videos.

    python -m benchmarks.routing --model FOLDER/nano-vl --device cuda --out benchmarks/results/routing-h100.json
    python -m benchmarks.routing --from benchmarks/results/routing-*.json --figure docs/routing.svg

A model of stock layout (nano-vl: python -m nano.train --stock) routes each question by its own yes or no, and reads the
visual tokens of some of the video's frame pairs. Questions about a moment and about a whole video are asked of the same
videos. Right is the script's answer, letter by letter; of a time, any second while what is sought is shown. Results are
written after every few videos. The second command needs no model.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.batched_answers import BatchedAnswers
from benchmarks.nano_setting import VideoSetting, add_options, load_model
from benchmarks.nano_videos import LENGTHS, HeldOutVideo, VideoPixels, encoded, held_out_videos
from benchmarks.pair_answers import Chosen, WholeVideo, every_setting, likeness_of, whole_video
from benchmarks.result_files import add_result_options, show, write_results
from benchmarks.routing_report import tables
from nano.phrasings import KINDS, WHOLE_KINDS
from nano.questions import Question
from nano.world import Script
from tempo_core.stock_checkpoint import StockCheckpoint

ASKED = (*KINDS, *WHOLE_KINDS, *WHOLE_KINDS)  # about as many of the one sort as of the other
_WRITE_VIDEOS = 5
_WHOLE_ALONE = 20  # answers that are compared with what the reader says alone


@dataclass
class Tally:
    """What is counted, a list of one entry per question each; ``right``: by setting, "1" or "0" per question."""

    questions: dict[str, list[object]] = field(default_factory=dict)
    right: dict[str, list[str]] = field(default_factory=dict)
    spent: dict[str, list[int]] = field(default_factory=dict)
    same: int = 0
    compared: int = 0

    def add(self, facts: dict[str, object], right: dict[str, bool], chosen: dict[str, Chosen]) -> None:
        """One question: what is known of it, and what each setting made of it."""
        for name, fact in facts.items():
            self.questions.setdefault(name, []).append(fact)
        for name, is_right in right.items():
            self.right.setdefault(name, []).append("01"[is_right])
            self.spent.setdefault(name, []).append(sum(map(len, chosen[name])))

    def results(self, setting: VideoSetting) -> dict[str, Any]:
        """As JSON values; ``spent``: frame pairs of a question, on average."""
        return {
            "about": {**setting.about(), "same_as_alone": f"{self.same} of {self.compared}"},
            "spent": {name: round(float(np.mean(pairs)), 3) for name, pairs in self.spent.items()},
            "right": {name: "".join(bits) for name, bits in self.right.items()},
            "questions": self.questions,
        }


def is_right(question: Question, script: Script, told: str) -> bool:
    """Whether that is the script's answer."""
    if question.kind != "when":
        return told == question.answer
    begin_s, end_s = script.span_s(question.evidence[0])
    return told.isdecimal() and begin_s <= int(told) < end_s


def open_stock(options: argparse.Namespace, lengths: tuple[tuple[int, int], ...] = LENGTHS) -> VideoSetting:
    """Loads the model and draws the videos."""
    checkpoint = load_model(options)
    videos = held_out_videos(options.questions, options.per_video, options.seed, lengths, ASKED)[options.skip :]
    return VideoSetting(checkpoint, videos, options, BatchedAnswers(checkpoint.reader))


def run(setting: VideoSetting) -> dict[str, Any]:
    """The experiment, its results as JSON values."""
    tally = Tally()
    for video, pixels in setting.read():
        _ask_video(setting, tally, video, pixels)
        if setting.taken % _WRITE_VIDEOS == 0:
            write_results(setting.options.out, tally.results(setting))
    return tally.results(setting)


def _ask_video(setting: VideoSetting, tally: Tally, video: HeldOutVideo, pixels: VideoPixels) -> None:
    checkpoint = setting.checkpoint
    if not isinstance(checkpoint, StockCheckpoint):
        raise SystemExit(f"{checkpoint.id} reads no frame pairs; give a checkpoint of stock layout with --model")
    states, router = encoded(checkpoint, pixels).states, checkpoint.router
    prefix = router.prefill(states)
    features = router.features(prefix)
    for number, question in enumerate(video.questions):
        rng = np.random.default_rng([setting.options.seed, video.number, number])
        scores = router.relevance(prefix, question.text)
        likeness = likeness_of(router.question_feature(question.text), features)
        whole = whole_video(checkpoint, question.text, states)
        chosen = every_setting(whole, scores, likeness, rng)
        told = _answers(setting, whole, chosen)
        if tally.compared < _WHOLE_ALONE:
            name = list(chosen)[(tally.compared * 11) % len(chosen)]
            kept = [state.pairs(pairs) for state, pairs in zip(states, chosen[name], strict=True) if pairs]
            ids = checkpoint.reader.token_ids(checkpoint.reader.prompt(question.text, kept), setting.answers._new)
            tally.same += "".join(checkpoint.reader.text_pieces(ids)).strip() == told[name]
            tally.compared += 1
        right = {name: is_right(question, video.script, text) for name, text in told.items()}
        tally.add(_facts(video, question, scores, told), right, chosen)


def _facts(video: HeldOutVideo, question: Question, scores: Any, told: dict[str, str]) -> dict[str, object]:
    """``stands_out``: by how much the best score exceeds the middle one, which the engine's rule looks at."""
    return {
        "kind": question.kind,
        "is_whole": int(question.kind in WHOLE_KINDS),
        "video": video.number,
        "quiet": int(video.is_quiet),
        "length": video.length,
        "segments": len(video.script.scenes),
        "relevant": len(question.relevant),
        "stands_out": round(float(scores.max() - np.median(scores)), 4),
        "novel_phrasing": int(question.novel_phrasing),
        "novel_pair": int(question.novel_pair),
        "text": question.text,
        "answer": question.answer,
        "told": told["even/1"],
    }


def _answers(setting: VideoSetting, whole: WholeVideo, chosen: dict[str, Chosen]) -> dict[str, str]:
    """The answer in each setting; settings that give the same frame pairs are answered once."""
    different = list(dict.fromkeys(chosen.values()))
    texts = dict(zip(different, setting.answers.texts([whole.cut(one) for one in different]), strict=True))
    return {name: texts[one] for name, one in chosen.items()}


def main() -> None:
    """Measures or reads results; prints tables, draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, questions=1400)
    parser.set_defaults(per_video=len(ASKED))
    add_result_options(parser)
    options = parser.parse_args()
    show(options, lambda: run(open_stock(options)), tables, "benchmarks.routing_figure")


if __name__ == "__main__":
    main()
