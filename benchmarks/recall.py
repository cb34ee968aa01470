"""Recall of the segments an answer rests on, by vector search and by the exact router, over a library of nano videos.

    python -m benchmarks.recall --questions 320 --routed 64 --out benchmarks/results/recall-2cores.json

At most two questions a video: 320 make a library of 204 videos, of one to four minutes. All segments are ranked
for each question that anything bears on, by the cosine of vectors made at index time (``feature_ways.py``; "centred":
less the mean of all segments and that of other questions), and for every n-th of them also by the relevance score that
the router computes, which reads the question over the whole library. At K candidates, the mean over questions of

    own video   the segments its answer is read from that are among the K best of its own video
    library     those that are among the K best of the whole library
    alike       segments of the library that show what is sought, other videos' too, among the K best; of min(K, all)
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.feature_ways import WAYS, cosines, question_vectors, segment_vectors
from benchmarks.nano_setting import Setting, add_options, open_setting
from benchmarks.nano_videos import HeldOutVideo, encoded, held_out_videos
from benchmarks.result_files import write_results
from benchmarks.tables import table
from nano.questions import Question
from nano.world import SHORT_SCENE_S, Scene
from tempo_core.values import FloatArray, SegmentState

CANDIDATES = (8, 16, 32, 64, 128, 256)
MEASURES = ("own video", "library", "alike")
EXACT = "exact router"
_GROUP_SEGMENTS = 1024  # that a question is read over at a time
_OTHER_QUESTIONS = 180
_LENGTHS = ((16, SHORT_SCENE_S), (32, SHORT_SCENE_S), (64, SHORT_SCENE_S))


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


def _rank(setting: Setting, routed: Sequence[Asked]) -> Ranked:
    ranked, compressor = Ranked(), setting.checkpoint.compressor
    for group in _groups(setting, ranked):
        prefix, vectors = segment_vectors(compressor, group)
        for way, found in vectors.items():
            ranked.vectors.setdefault(way, []).append(found)
        scores = [compressor.relevance(prefix, one.question.text) for one in routed]
        ranked.exact.append(np.stack(scores))
    return ranked


def _scores(setting: Setting, asked: Sequence[Asked], ranked: Ranked) -> Iterator[tuple[str, FloatArray]]:
    """By way of making vectors, [Q, N]."""
    spoken = [question_vectors(setting.checkpoint.compressor, one.question.text) for one in asked]
    others = [question_vectors(setting.checkpoint.compressor, text) for text in _other_questions(setting)]
    for way in WAYS:
        segments = np.concatenate(ranked.vectors[way])
        questions, known = (np.stack([vectors[way] for vectors in some]) for some in (spoken, others))
        yield way, cosines(segments, questions)
        centres = segments.mean(axis=(0, 1)), known.mean(axis=0)
        yield f"{way}, centred", cosines(segments - centres[0], questions - centres[1])


def _other_questions(setting: Setting) -> list[str]:
    """What is asked about other videos: an engine knows what questions have in common, not which ones will come."""
    others = held_out_videos(_OTHER_QUESTIONS, per_video=9, seed=setting.options.seed + 1)
    return [question.text for video in others for question in video.questions]


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
    add_options(parser, questions=320)
    parser.add_argument("--routed", type=int, default=16, help="questions, about, that the router ranks too")
    parser.set_defaults(per_video=2)
    options = parser.parse_args()
    if options.minutes != math.inf:
        parser.error("--minutes: recall needs the whole library")
    setting = open_setting(options, _LENGTHS)
    if options.device.startswith("cuda"):
        setting.checkpoint.compressor._batch = _GROUP_SEGMENTS
    asked = _asked(setting.videos)
    step = max(1, len(asked) // max(1, options.routed))
    routed = asked[::step]
    ranked = _rank(setting, routed)
    by_way = dict(_scores(setting, asked, ranked))
    rows = {way: recall_at(scores, asked, ranked) for way, scores in by_way.items()}
    few = {EXACT: np.concatenate(ranked.exact, axis=1)}
    few |= {way: scores[::step] for way, scores in by_way.items()}
    routed_rows = {way: recall_at(scores, routed, ranked) for way, scores in few.items()}
    about = {**setting.about(), "asked": len(asked), "routed": len(routed), "segments": len(ranked.scenes)}
    print(json.dumps(about))
    _print(rows, f"{len(asked)} questions")
    _print(routed_rows, f"the {len(routed)} of them that were also routed")
    write_results(options.out, {"about": about, "k": CANDIDATES, "asked": rows, "routed": routed_rows})


def _print(rows: dict[str, dict[str, list[float]]], which: str) -> None:
    for measure in MEASURES:
        cells = [[way, *(f"{value:.3f}" for value in found[measure])] for way, found in rows.items()]
        print(f"\n{which}\n\n" + table([f"{measure}: recall at", *map(str, CANDIDATES)], cells))


if __name__ == "__main__":
    main()
