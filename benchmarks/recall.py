"""Recall of the segments an answer rests on, by vector search and by the exact router, over a library of nano videos.

    python -m benchmarks.recall --model PATH --questions 200 --device cuda --out benchmarks/results/recall.json

A video a question, so 200 questions make a library of at least 200 videos. All segments are ranked for each question
that anything bears on: by the cosine of vectors made at index time (``feature_ways.py``), and by the relevance score
that the router computes. At K candidates, the mean over questions of

    own video   the segments its answer is read from that are among the K best of its own video
    library     those that are among the K best of the whole library
    alike       segments of the library that show what is sought, other videos' too, among the K best; of min(K, all)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.feature_ways import WAYS, cosines, question_vectors, segment_vectors
from benchmarks.nano_setting import Setting, add_options, open_setting, write_results
from benchmarks.nano_videos import HeldOutVideo, encoded
from nano.questions import Question
from nano.world import Scene
from tempo_core.values import FloatArray, SegmentState

CANDIDATES = (8, 16, 32, 64, 128, 256)
MEASURES = ("own video", "library", "alike")
EXACT = "exact router"
_GROUP_SEGMENTS = 1024  # that a question is read over at a time
_PREFIX_BATCH = 1024


@dataclass
class Ranked:
    """The library's segments in order: ``scenes``, ``video`` [N] numbers; ``vectors`` by way, ``exact`` [Q, N]."""

    scenes: list[Scene] = field(default_factory=list)
    video: list[int] = field(default_factory=list)
    vectors: dict[str, list[FloatArray]] = field(default_factory=dict)
    exact: list[FloatArray] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """A question about the video of that number."""

    video: int
    question: Question


def _groups(setting: Setting, ranked: Ranked) -> Iterator[list[SegmentState]]:
    """The states of whole videos, some at a time."""
    group: list[SegmentState] = []
    for video, pixels in setting.read():
        group += encoded(setting.checkpoint, pixels).states
        ranked.scenes += video.script.scenes
        ranked.video += [video.number] * len(video.script.scenes)
        if len(group) >= _GROUP_SEGMENTS:
            yield group
            group = []
    if group:
        yield group


def _rank(setting: Setting, asked: Sequence[Asked]) -> Ranked:
    ranked, compressor = Ranked(), setting.checkpoint.compressor
    for group in _groups(setting, ranked):
        prefix, vectors = segment_vectors(compressor, group)
        for way, found in vectors.items():
            ranked.vectors.setdefault(way, []).append(found)
        scores = [compressor.relevance(prefix, one.question.text) for one in asked]
        ranked.exact.append(np.stack(scores))
    return ranked


def _scores(setting: Setting, asked: Sequence[Asked], ranked: Ranked) -> Iterator[tuple[str, FloatArray]]:
    """By way, [Q, N]."""
    yield EXACT, np.concatenate(ranked.exact, axis=1)
    spoken = [question_vectors(setting.checkpoint.compressor, one.question.text) for one in asked]
    for way in WAYS:
        segments = np.concatenate(ranked.vectors[way])
        questions = np.stack([vectors[way] for vectors in spoken])
        yield way, cosines(segments, questions, centred=False)
        yield f"{way}, centred", cosines(segments, questions, centred=True)


def recall_at(scores: FloatArray, asked: Sequence[Asked], ranked: Ranked) -> dict[str, list[float]]:
    """By measure, the mean recall at each of ``CANDIDATES``; ``scores`` [Q, N]."""
    video = np.array(ranked.video)
    found: dict[str, list[list[float]]] = {measure: [] for measure in MEASURES}
    for row, one in zip(scores, asked, strict=True):
        is_own = video == one.video
        alike = np.array([one.question.sought.fits(scene) for scene in ranked.scenes])
        evidence = np.zeros_like(is_own)
        evidence[is_own.nonzero()[0][list(one.question.evidence)]] = True
        found["own video"].append(_recalls(row[is_own], evidence[is_own]))
        found["library"].append(_recalls(row, evidence))
        found["alike"].append(_recalls(row, alike, of_candidates=True))
    return {measure: [round(float(value), 4) for value in np.mean(rows, axis=0)] for measure, rows in found.items()}


def _recalls(scores: FloatArray, wanted: npt.NDArray[np.bool_], of_candidates: bool = False) -> list[float]:
    """The share of the wanted ones among the K best; of at most K of them with ``of_candidates``."""
    hits = np.cumsum(wanted[np.argsort(-scores, kind="stable")])
    total = int(wanted.sum())
    return [float(hits[min(k, len(hits)) - 1]) / (min(k, total) if of_candidates else total) for k in CANDIDATES]


def _asked(videos: Sequence[HeldOutVideo]) -> list[Asked]:
    """The questions that some segment bears on."""
    pairs = [Asked(video.number, question) for video in videos for question in video.questions]
    return [one for one in pairs if one.question.relevant]


def main() -> None:
    """Prints a table per measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, questions=200)
    parser.set_defaults(per_video=1)
    options = parser.parse_args()
    setting = open_setting(options)
    if options.device.startswith("cuda"):
        setting.checkpoint.compressor._batch = _PREFIX_BATCH
    asked = _asked(setting.videos)
    ranked = _rank(setting, asked)
    rows = {way: recall_at(scores, asked, ranked) for way, scores in _scores(setting, asked, ranked)}
    about = {**setting.about(), "asked": len(asked), "segments": len(ranked.scenes), "k": CANDIDATES}
    print(json.dumps(about))
    for measure in MEASURES:
        print(f"\n| {measure}: recall at | " + " | ".join(map(str, CANDIDATES)) + " |")
        print("| --- | " + " | ".join("---" for _ in CANDIDATES) + " |")
        for way, found in rows.items():
            print(f"| {way} | " + " | ".join(f"{value:.3f}" for value in found[measure]) + " |")
    write_results(options.out, {"about": about, **rows})


if __name__ == "__main__":
    main()
