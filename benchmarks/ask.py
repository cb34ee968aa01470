"""One question, four ways, on the same video and model in one run (`python -m benchmarks.ask --help`).

    recompute  decode, patches, vision tower, whole SVLM pass with all memory tokens, LLM: as the reference does
    frames     as cold, of a library that keeps frames alone: the states are computed from them
    cold       states on disk (page cache dropped where the system allows it), nothing in memory
    warm       KV caches kept from an earlier question

First token: the same question limited to one answer token. Weights are random, which times as well as trained ones;
compilation, graph capture and warm-up are paid by a question before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.random_checkpoint import QUESTION, tempo_checkpoint
from benchmarks.videos import make_video
from flows.reporter import Reporter
from flows.request import IndexRequest
from flows.run.indexing import IndexRun
from serving.answer import Answer
from serving.engine import Engine
from storage import Library, VideoRecord, open_library
from tempo_core import IndexSpec, allocate
from tempo_core.decoding import probe, read_segments
from tempo_core.pixels import patchify
from tempo_core.sampling import segment_spans
from tempo_core.spec import PAPER
from tempo_core.tempo_checkpoint import TempoCheckpoint
from tempo_core.values import SegmentPixels

Row = dict[str, object]


@dataclass(frozen=True)
class Setting:
    """What all ways share."""

    checkpoint: TempoCheckpoint
    spec: IndexSpec
    video: Path
    library: Library
    record: VideoRecord
    token_budget: int
    answer_tokens: int
    repeats: int


def index(library: Library, checkpoint: TempoCheckpoint, spec: IndexSpec, path: Path) -> VideoRecord:
    """The real run, in this process."""
    request = IndexRequest(sources=[str(path)], library=library.uri, spec=spec.name)
    IndexRun(request, Reporter(), checkpoint).run()
    return library.videos()[0]


def recompute(setting: Setting) -> Row:
    """Everything again, step by step. ``first_token_s`` is the sum of what must come before it."""
    compressor, answerer = setting.checkpoint.compressor, setting.checkpoint.answerer
    steps: dict[str, float] = {}
    with step(steps, "decode"):
        info = probe(setting.video)
        with read_segments(setting.video, info, setting.spec, setting.checkpoint.geometry) as reader:
            frames = [segment.pixels for segment in reader]
    spans = segment_spans(info.sampling(setting.spec), setting.spec)
    with step(steps, "patches"):
        pixels = [
            SegmentPixels(*patchify(pictures), span.pair_times_s) for pictures, span in zip(frames, spans, strict=True)
        ]
    with step(steps, "vision"):
        states = compressor.encode(pixels)
    with step(steps, "svlm"):
        read = compressor.read(compressor.prefill(states), QUESTION)
        everything = compressor.compress(read, QUESTION, [compressor.max_memory_tokens] * len(states))
    tokens = allocate(read.scores, setting.token_budget)
    memory = [found[:count] for found, count in zip(everything, tokens, strict=True)]
    tags = [span.tag_time_s for span in spans]
    with step(steps, "generate"):
        answerer.generate(QUESTION, tags, memory, max_new_tokens=1)
    first = sum(steps.values())
    with step(steps, "generate"):
        answerer.generate(QUESTION, tags, memory, max_new_tokens=setting.answer_tokens)
    return {"way": "recompute", "first_token_s": first, "total_s": sum(steps.values()), "steps_s": steps}


@contextmanager
def step(steps: dict[str, float], name: str) -> Iterator[None]:
    """Times a block, waiting for the GPU at its end; the last time of a name counts."""
    begin = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    steps[name] = time.perf_counter() - begin


def asked(setting: Setting, engine: Callable[[], Engine], way: str) -> Row:
    """Medians over repeats; ``engine`` gives the one to ask, fresh for cold questions."""
    firsts, totals, answers = [], [], list[Answer]()
    for _ in range(setting.repeats):
        firsts.append(_ask(setting, engine(), 1)[0])
        seconds, answer = _ask(setting, engine(), setting.answer_tokens)
        totals.append(seconds)
        answers.append(answer)
    middle = sorted(answers, key=lambda answer: answer.timings_s.total)[len(answers) // 2]
    timings = middle.to_json()["timings_s"]
    return {
        "way": way,
        "first_token_s": statistics.median(firsts),
        "total_s": statistics.median(totals),
        "steps_s": timings,
        "usage": middle.to_json()["usage"],
    }


def _ask(setting: Setting, engine: Engine, answer_tokens: int) -> tuple[float, Answer]:
    begin = time.perf_counter()
    answer = engine.ask(QUESTION, token_budget=setting.token_budget, max_new_tokens=answer_tokens)
    return time.perf_counter() - begin, answer


def cold_engine(setting: Setting) -> Engine:
    """An engine that holds nothing, over parts that are not in the page cache."""
    for part in setting.record.parts:
        with (Path(setting.library.uri) / part.path).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return Engine(setting.library, setting.checkpoint)


def from_frames(setting: Setting) -> Row:
    """The states are dropped first, as a budget drops them."""
    with setting.library.writer() as writer:
        writer.set_states_budget(0)
        writer.keep_to_budget()
    (record,) = setting.library.videos()
    only_frames = replace(setting, record=record)
    return asked(only_frames, lambda: cold_engine(only_frames), "frames")


def peak_memory(device: str) -> Row:
    """Peak bytes of the process so far, and of the device."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"host": host, "device": torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0}


def main() -> None:
    """Builds the setting, measures the ways, prints a table and, with --out, writes JSON."""
    options = _options()
    device = "cuda" if torch.cuda.is_available() and options.size == "full" else "cpu"
    work = Path(options.work or tempfile.mkdtemp(prefix="tempo-ask-"))
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = tempo_checkpoint(options.size, work, device)
    video = options.video or work / "video.mp4"
    if not video.exists():
        make_video(video, options.seconds, options.picture)
    begin = time.perf_counter()
    library = open_library(str(work / "library"), create=True)
    record = index(library, checkpoint, PAPER, video)
    rows: list[Row] = [{"way": "index", "total_s": time.perf_counter() - begin, "peak": peak_memory(device)}]
    setting = Setting(
        checkpoint, PAPER, video, library, record, options.token_budget, options.answer_tokens, options.repeats
    )
    warm = Engine(library, checkpoint)
    _ask(setting, warm, setting.answer_tokens)
    ways: list[Callable[[], Row]] = [
        lambda: asked(setting, lambda: warm, "warm"),
        lambda: asked(setting, lambda: cold_engine(setting), "cold"),
        lambda: recompute(setting),
        lambda: from_frames(setting),
    ]
    for measured in ways:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rows.append({**measured(), "peak": peak_memory(device)})
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows, record))
    if options.out:
        Path(options.out).write_text(
            json.dumps({"rows": rows, "frames": record.frame_count, "segments": record.segment_count})
        )


def table(rows: list[Row], record: VideoRecord) -> str:
    """Markdown, for docs/results.md."""
    total = {str(row["way"]): row for row in rows}
    warm = float(str(total["warm"]["total_s"]))
    hours = record.facts.duration_s / 3600
    frames, states = (f"{part.size / hours / 1e6:.1f} MB" for part in record.parts)
    lines = [
        f"{record.frame_count} frames, {record.segment_count} segments, {record.facts.duration_s:.0f} s of video",
        f"an hour of it: {states} of states, {frames} of frames",
        "",
    ]
    lines += [
        "| way | first token s | whole answer s | times warm | steps s | device GB |",
        "|---|---|---|---|---|---|",
    ]
    for way in ("recompute", "frames", "cold", "warm"):
        row = total[way]
        steps = row["steps_s"]
        assert isinstance(steps, dict)
        said = ", ".join(f"{name} {seconds:.2f}" for name, seconds in steps.items() if name != "total")
        peak = row["peak"]
        assert isinstance(peak, dict)
        whole = float(str(row["total_s"]))
        lines.append(
            f"| {way} | {row['first_token_s']:.2f} | {whole:.2f} | {whole / warm:.1f} | {said} "
            f"| {peak['device'] / 1e9:.1f} |"
        )
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "full"], default="tiny", help="tiny: the embedded model on the CPU")
    parser.add_argument("--video", type=Path, help="a video to ask about; by default one is made")
    parser.add_argument("--seconds", type=int, default=60, help="length of the made video")
    parser.add_argument("--picture", default="640x360", help="size of the made video")
    parser.add_argument("--token-budget", type=int, default=4096)
    parser.add_argument("--answer-tokens", type=int, default=33)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", help="folder for model, video and library; kept if named")
    parser.add_argument("--out", help="file for the numbers as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
