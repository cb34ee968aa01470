"""The whole run against the floors of the same run (`python -m benchmarks.index --help`).

Two cases: one long video, and many short ones. Ways, by turns in each repeat:

    decode   bare ffmpeg: the reader's own selection and size, what comes out thrown away; so many processes at a time
             with so many threads each (the fastest is the floor)
    encode   the model alone, on frames in memory, for as many segments
    stream   our decoding alone, one video at a time: fetch, packet scan, ffmpeg, JPEG; nothing kept
    process  ``IndexRun`` in this process, model loaded
    ray      the same on Ray's actors; Ray and the model are up before the clock starts, and that is told apart

What counts is process and ray over the slower floor. Each repeat has videos of its own, so that one library serves all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.encoder import encoder_rows
from benchmarks.memory import peaks
from benchmarks.random_checkpoint import write_checkpoint
from benchmarks.videos import CONTENT_S, cut_video, loop_video, make_content
from benchmarks.ways import Bench, Case, Row, measure
from flows.embedded import EMBEDDED_ID
from flows.environment import prepare
from flows.models import choose_models, open_model
from tempo_core.spec import NAMED_SPECS
from tempo_core.tempo_checkpoint import require_tempo

GOAL = 1.15
_Way = tuple[str, object, object]  # with processes at a time, and threads of each


def measure_memory(bench: Bench, content: Path, seconds: int, on_ray: bool) -> None:
    """Peak memory of a run over a video, and over one four times as long, all its frames sampled alike."""
    for ray in ["off", *(["local"] if on_ray else [])]:
        found = []
        for length_s in (seconds, 4 * seconds):
            path = bench.work / f"memory-{length_s}.mp4"
            loop_video(content, path, length_s)
            with tempfile.TemporaryDirectory(dir=bench.work, prefix="library-") as library:
                found.append(peaks(path, library, ray, bench.model, "dense"))
            bench.emit({"case": "memory", "ray": ray, "video_s": length_s, "peaks": found[-1]})
        growth = {role: found[1][role]["own"] - found[0][role]["own"] for role in found[0] if role in found[1]}
        bench.emit({"case": "memory", "ray": ray, "growth_bytes": growth})


def table(rows: Sequence[Row]) -> str:
    """Markdown: each way of each case against the slower floor."""
    lines = ["| case | way | seconds | video hours per hour | times the slower floor |", "|---|---|---|---|---|"]
    for case in dict.fromkeys(str(row["case"]) for row in rows if "repeat" in row):
        ways = _medians([row for row in rows if row["case"] == case and "repeat" in row])
        decode_s = min(seconds for (way, *_), (seconds, _) in ways.items() if way == "decode")
        floor_s = max(decode_s, ways["encode", None, None][0])
        for (way, at_a_time, threads), (seconds, video_s) in ways.items():
            said = way if way != "decode" else f"decode, {at_a_time} with {threads or 'all'} threads"
            over = " (over the goal)" if way in {"process", "ray"} and seconds > GOAL * floor_s else ""
            lines.append(
                f"| {case} | {said} | {seconds:.2f} | {video_s / seconds:.0f} | {seconds / floor_s:.2f}{over} |"
            )
    return "\n".join(lines)


def _medians(rows: Sequence[Row]) -> dict[_Way, tuple[float, float]]:
    """Seconds and seconds of video, by way."""
    found: dict[_Way, list[tuple[float, float]]] = {}
    for row in rows:
        way = str(row["way"]), row.get("at_a_time"), row.get("threads")
        found.setdefault(way, []).append((float(str(row["seconds"])), float(str(row["video_s"]))))
    return {
        way: (statistics.median(s for s, _ in both), statistics.median(v for _, v in both))
        for way, both in found.items()
    }


def cases(options: argparse.Namespace, content: Path, work: Path) -> Iterator[Case]:
    """One long video a repeat, each a second longer than the one before; short ones from places of their own."""
    if options.long:
        paths = [work / f"long-{repeat}.mp4" for repeat in range(options.long_repeats or options.repeats)]
        for repeat, path in enumerate(paths):
            loop_video(content, path, options.long + repeat)
        yield Case("long", [[path] for path in paths])
    if options.short:
        yield Case("short", [_shorts(options, content, work, repeat) for repeat in range(options.repeats)])


def _shorts(options: argparse.Namespace, content: Path, work: Path, repeat: int) -> list[Path]:
    """Of a half to one and a half of the length asked for."""
    made = []
    for number in range(options.short):
        path = work / f"short-{repeat}-{number}.mp4"
        share = 0.5 + number / max(1, options.short - 1)
        begin_s = 2 * (number + repeat * options.short) % max(1, options.content // 2)
        cut_video(content, path, begin_s, min(round(share * options.short_seconds), options.content - begin_s))
        made.append(path)
    return made


def main() -> None:
    """Builds the setting, measures, prints rows and a table, and keeps the rows as they come in --out."""
    options = _options()
    prepare()
    work = Path(options.work or tempfile.mkdtemp(prefix="tempo-index-"))
    work.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    device = "cuda" if torch.cuda.is_available() and options.size == "full" else "cpu"
    model = EMBEDDED_ID
    if options.size == "full":
        model = str(write_checkpoint(work / "checkpoint", Path(__file__).with_name("full-size.json"), device))

    def emit(row: Row) -> None:
        rows.append(row)
        print(json.dumps(row), flush=True)
        if options.out:
            _write(Path(options.out), rows, options)

    checkpoint = require_tempo(open_model(choose_models(model, None, None)))
    bench = Bench(work, model, checkpoint, NAMED_SPECS[options.spec], options.batches, emit)
    if options.encoder or options.encoder_only:
        for row in encoder_rows(bench.checkpoint, model, bench.spec, options.batches):
            emit({"case": "encoder", **row})
    if not options.encoder_only:
        _whole(options, bench)
        print(table(rows))


def _whole(options: argparse.Namespace, bench: Bench) -> None:
    content = bench.work / "content.mp4"
    if not content.exists():
        make_content(content, options.content, options.picture, options.noise)
    for case in cases(options, content, bench.work):
        measure(case, bench, options.ray)
    if options.memory:
        measure_memory(bench, content, options.memory, options.ray)


def _write(out: Path, rows: Sequence[Row], options: argparse.Namespace) -> None:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = {"cores": os.cpu_count(), "gpu": gpu, "python": platform.python_version(), "torch": torch.__version__}
    asked = {name: value for name, value in vars(options).items() if name not in {"work", "out"}}
    out.write_text(json.dumps({"machine": machine, "options": asked, "rows": rows}, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "full"], default="tiny", help="tiny: the embedded model")
    parser.add_argument("--spec", choices=list(NAMED_SPECS), default="paper")
    parser.add_argument("--long", type=int, default=600, help="seconds of the long video; 0: none")
    parser.add_argument("--short", type=int, default=12, help="how many short videos; 0: none")
    parser.add_argument("--short-seconds", type=int, default=30, help="their mean length")
    parser.add_argument("--picture", default="640x360", help="size of the made videos")
    parser.add_argument("--noise", type=int, default=5, help="5: 7 Mb/s of 1080p; 12: 57")
    parser.add_argument("--content", type=int, default=CONTENT_S, help="seconds of video that all others are made of")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--long-repeats", type=int, help="of the long video; by default as many as of the short ones")
    parser.add_argument("--batches", type=int, default=2, help="batches of 16 segments that the encoder is timed on")
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory", type=int, default=0, help="seconds of the shorter video whose run is watched")
    parser.add_argument("--encoder", action="store_true", help="the encoder against a matrix product, too")
    parser.add_argument("--encoder-only", action="store_true", help="nothing else")
    parser.add_argument("--work", help="folder for model, videos and libraries; kept if named")
    parser.add_argument("--out", help="file for the numbers as JSON, written after each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
