"""Many users at once about one hot video (`python -m benchmarks.concurrent --help`).

Closed loop: each user asks, takes the answer token by token to its end, and asks the next question. A line for each
number of users: questions answered a second, when the first token of an answer came (median and 95th percentile),
and errors. Pictures are noise and, at the full size, weights are random, which times as well as trained ones. Answers
have all their tokens: nothing ends a turn. Where LanceDB is not installed, a stand-in keeps the library in memory.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from benchmarks.random_checkpoint import QUESTION, tempo_checkpoint
from benchmarks.states_alone import MadeVideo, StatesAlone, committed
from benchmarks.tables import table
from serving.engine import Engine
from serving.selection import Scope
from tempo_core.errors import TempoError
from tempo_core.pixels import patchify
from tempo_core.sampling import sample_frames, segment_spans
from tempo_core.spec import PAPER
from tempo_core.tempo_checkpoint import TempoCheckpoint
from tempo_core.values import SegmentPixels

Row = dict[str, object]
PICTURES = {"tiny": (64, 96), "full": (256, 512)}  # rows and columns
STATES_AT_ONCE = 8  # segments


@dataclass
class Seen:
    """What the users of one row saw, in seconds."""

    firsts_s: list[float] = field(default_factory=list)
    answers_s: list[float] = field(default_factory=list)
    errors: int = 0


def endless(checkpoint: TempoCheckpoint) -> TempoCheckpoint:
    """The same model, whose answers have as many tokens as are asked for, and a piece of text for each."""

    def text_pieces(token_ids: Iterable[int]) -> Iterator[str]:
        return ("x" for _ in token_ids)  # half a character, of random weights, would wait for its other half

    reader = copy.copy(checkpoint.reader)
    reader._stop_ids = frozenset()
    reader.text_pieces = text_pieces  # type: ignore[method-assign]
    return replace(checkpoint, reader=reader)


def made_video(checkpoint: TempoCheckpoint, seconds: int, size: tuple[int, int]) -> MadeVideo:
    """States of noise, a few segments at a time."""
    spec = PAPER if checkpoint.router.device.type == "cuda" else replace(PAPER, name="plain", state_dtype="float32")
    spans = segment_spans(sample_frames(Fraction(seconds), spec), spec)
    noise, states = np.random.default_rng(1), []
    for start in range(0, len(spans), STATES_AT_ONCE):
        pixels = [
            SegmentPixels(*patchify(noise.integers(0, 256, (span.count, *size, 3), dtype=np.uint8)), span.pair_times_s)
            for span in spans[start : start + STATES_AT_ONCE]
        ]
        states += checkpoint.router.encode(pixels, state_dtype=spec.state_dtype)
    return MadeVideo(checkpoint.fingerprints(spec), spec, spans, states, checkpoint.router.features(states))


def user(engine: Engine, scope: Scope, number: int, options: argparse.Namespace, until: float) -> Seen:
    """One question at least, and others until then."""
    seen, asked = Seen(), 0
    while not asked or time.perf_counter() < until:
        asked, begin, first = asked + 1, time.perf_counter(), 0.0
        try:
            for _ in engine.stream(f"{QUESTION} {number} {asked}", scope, options.token_budget, options.answer_tokens):
                first = first or time.perf_counter() - begin
        except TempoError:
            seen.errors += 1
            continue
        seen.firsts_s.append(first)
        seen.answers_s.append(time.perf_counter() - begin)
    return seen


def row(engine: Engine, scope: Scope, users: int, options: argparse.Namespace, seconds: float) -> Row:
    """What ``users`` at once saw within that time; answers that are under way at its end count."""
    begin = time.perf_counter()
    until = begin + seconds
    with ThreadPoolExecutor(users) as threads:
        seen = list(threads.map(lambda number: user(engine, scope, number, options, until), range(users)))
    elapsed = time.perf_counter() - begin
    firsts = [first for one in seen for first in one.firsts_s]
    answers = [answer for one in seen for answer in one.answers_s]
    p50, p95 = np.percentile(firsts, [50, 95]) if firsts else (float("nan"),) * 2
    return {
        "users": users,
        "questions": len(answers),
        "questions_per_s": round(len(answers) / elapsed, 3),
        "first_token_p50_s": round(float(p50), 4),
        "first_token_p95_s": round(float(p95), 4),
        "answer_p50_s": round(float(np.median(answers)), 4) if answers else float("nan"),
        "errors": sum(one.errors for one in seen),
    }


def measured(engine: Engine, scope: Scope, options: argparse.Namespace, on_gpu: bool) -> list[Row]:
    """A row for each number of users, printed as it comes where JSON is asked for."""
    engine.ask(QUESTION, scope, options.token_budget, options.answer_tokens)  # from here on the video is hot
    if on_gpu:  # a graph for each number of places is captured
        row(engine, scope, max(options.users), options, seconds=0.0)
    rows = []
    for users in options.users:
        rows.append(row(engine, scope, users, options, options.seconds))
        if options.json:
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    options = _options()
    device = "cuda" if torch.cuda.is_available() and options.size == "full" else "cpu"
    with tempfile.TemporaryDirectory(prefix="tempo-concurrent-") as made:
        work = options.work or Path(made)
        checkpoint = endless(tempo_checkpoint(options.size, work, device))
        if device == "cuda":
            checkpoint.compile()
        video = made_video(checkpoint, options.video_seconds, PICTURES[options.size])
        if find_spec("lancedb") is None:
            library = StatesAlone(video).as_library()
        else:
            library = committed(video, checkpoint.id, work / "library")
        scope = Scope(videos=tuple(library.videos()))
        with Engine(library, checkpoint) as engine:
            rows = measured(engine, scope, options, device == "cuda")
    if not options.json:
        shown = ["users", "questions_per_s", "first_token_p50_s", "first_token_p95_s", "answer_p50_s", "errors"]
        print(table(shown, [[str(one[name]) for name in shown] for one in rows]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "full"], default="tiny", help="tiny: the embedded model on the CPU")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each row, in which a user asks again")
    parser.add_argument("--video-seconds", type=int, default=60, help="length of the video")
    parser.add_argument("--token-budget", type=int, default=4096)
    parser.add_argument("--answer-tokens", type=int, default=33)
    parser.add_argument("--work", type=Path, help="folder for the model and the library; kept if named")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row instead of a table")
    return parser.parse_args()


if __name__ == "__main__":
    main()
