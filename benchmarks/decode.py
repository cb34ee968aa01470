"""What decoding costs and what saves it (`python -m benchmarks.decode --help`).

One made H.264 video per distance of key frames. Floors are bare ffmpeg that writes nothing:

    floor            decode everything, take frames at the paper's rate, scale them, throw them away
    floor-keyframes  decode key frames only, scale them, throw them away
    floor-nvdec      decode everything on the GPU, throw it away

Against them our reader, by index spec; alone with as many threads as ffmpeg likes, then several readers at once, each
with so many threads that together they have as many as there are cores: that is how an archive is indexed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from tempo_core.decoding import VideoInfo, check_decoder, find_ffmpeg, probe, read_segments
from tempo_core.errors import TempoError
from tempo_core.spec import NAMED_SPECS, PAPER, FrameGeometry, IndexSpec
from tempo_core.values import ByteArray

Row = dict[str, object]
_LOOP_S = 120  # a long video is this much content, repeated without encoding it again
_DEADLINE_S = 1800
_SOFTWARE = ("paper", "keyframes")
_NVDEC = ("paper-nvdec", "keyframes-nvdec")


def make_video(path: Path, seconds: int, picture: str, gop: int) -> None:
    """H.264 with motion in every frame, 25 frames/s, a key frame every ``gop`` frames."""
    once, content = path.with_name(f"once-{gop}.mp4"), min(seconds, _LOOP_S)
    source = f"testsrc2=size={picture}:rate=25,noise=alls=12:allf=t"
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-g", str(gop), "-keyint_min", str(gop), "-sc_threshold", "0"]
    encode = ["-f", "lavfi", "-i", source, "-t", str(content), *coding, "-pix_fmt", "yuv420p", str(once)]
    again = ["-stream_loop", str(-(-seconds // content) - 1), "-i", str(once), "-t", str(seconds), "-c", "copy"]
    for arguments in (encode, [*again, str(path)]):
        _ffmpeg(*arguments)


def _ffmpeg(*arguments: str) -> None:
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-y", *arguments]
    subprocess.run(command, check=True, timeout=_DEADLINE_S)


def timed(way: str, work: Callable[[], object], info: VideoInfo, readers: int = 1, threads: int | None = None) -> Row:
    """Wall clock and processor time (children and this process) of ``work``, which reads ``readers`` videos."""
    before, begin = _processor_s(), time.perf_counter()
    work()
    wall_s, processor_s = time.perf_counter() - begin, _processor_s() - before
    return {
        "way": way,
        "readers": readers,
        "threads": threads,
        "wall_s": wall_s,
        "processor_s": processor_s,
        "video_s_per_s": readers * float(info.duration) / wall_s,
        "processor_s_per_video_hour": processor_s / (readers * float(info.duration)) * 3600,
    }


def _processor_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def floors(path: Path, info: VideoInfo, nvdec: bool) -> Iterator[Row]:
    """Bare ffmpeg."""
    scale = "scale=512:256:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp,format=rgb24"
    taken = f"fps={float(info.sampling(PAPER).real_fps)!r},{scale}"
    ways = {"floor": ["-i", str(path), "-vf", taken]}
    ways["floor-keyframes"] = ["-skip_frame", "nokey", "-i", str(path), "-fps_mode", "passthrough", "-vf", scale]
    if nvdec:
        ways["floor-nvdec"] = ["-hwaccel", "cuda", "-hwaccel_output_format", "cuda", "-i", str(path)]
    for way, arguments in ways.items():
        yield timed(way, partial(_ffmpeg, *arguments, "-an", "-f", "null", "-"), info)


def read(path: Path, info: VideoInfo, spec: IndexSpec, threads: int | None = None) -> None:
    """Our reader, nothing kept."""
    for _ in read_segments(path, info, spec, FrameGeometry(), threads=threads):
        pass


def alone(path: Path, info: VideoInfo, names: tuple[str, ...]) -> Iterator[Row]:
    """One reader, by index spec; with how far it looks from where uniform sampling would."""
    for name in names:
        spec = NAMED_SPECS[name]
        row = timed(name, partial(read, path, info, spec), info)
        yield row | {"samples": info.sampling(spec).count, **distances(info, spec)}


def together(path: Path, info: VideoInfo, names: tuple[str, ...], counts: list[tuple[int, int]]) -> Iterator[Row]:
    """Several readers at once, (readers, threads each)."""
    for name in names:
        for readers, threads in counts:

            def work(spec: IndexSpec = NAMED_SPECS[name], readers: int = readers, threads: int = threads) -> None:
                with ThreadPoolExecutor(readers) as pool:
                    list(pool.map(lambda _: read(path, info, spec, threads), range(readers)))

            yield timed(name, work, info, readers, threads)


def distances(info: VideoInfo, spec: IndexSpec) -> Row:
    """From each uniform sample's time to the nearest time that ``spec`` looks at: mean and maximum, seconds."""
    uniform, taken = (
        np.array([float(sampling.time_s(k)) for k in range(sampling.count)])
        for sampling in (info.sampling(PAPER), info.sampling(spec))
    )
    nearest = np.abs(uniform[:, None] - taken[None, :]).min(axis=1)
    return {"distance_mean_s": float(nearest.mean()), "distance_max_s": float(nearest.max())}


def pixel_difference(path: Path, info: VideoInfo, one: str, other: str) -> Row:
    """How far two decoders' pixels of the first 64 samples lie apart, of 255."""

    def pictures(name: str) -> ByteArray:
        with read_segments(path, info, NAMED_SPECS[name], FrameGeometry()) as reader:
            return np.concatenate([segment.pixels for segment, _ in zip(reader, range(8), strict=False)])

    apart = np.abs(pictures(one).astype(np.int16) - pictures(other))
    return {"way": f"{one} - {other}", "pixels_mean": float(apart.mean()), "pixels_max": int(apart.max())}


def measured(path: Path, nvdec: bool, threads: list[int]) -> Iterator[Row]:
    """All rows of one video."""
    info, cores = probe(path), os.cpu_count() or 1
    yield timed("probe", lambda: probe(path), info)
    yield from floors(path, info, nvdec)
    yield from alone(path, info, (*_SOFTWARE, *(_NVDEC if nvdec else ())))
    yield from together(path, info, _SOFTWARE, [(cores // each, each) for each in threads if each <= cores])
    if nvdec:
        yield from together(path, info, _NVDEC, [(readers, 1) for readers in (4, 8, 16)])
        yield pixel_difference(path, info, "paper", "paper-nvdec")


def has_nvdec() -> bool:
    """Whether this machine decodes on a GPU; says why not."""
    try:
        check_decoder(NAMED_SPECS["paper-nvdec"])
    except TempoError as error:
        print(error, flush=True)
        return False
    return True


def main() -> None:
    """Makes the videos, measures, prints each row and, with --out, writes JSON."""
    options = _options()
    work = Path(options.work or tempfile.mkdtemp(prefix="tempo-decode-"))
    work.mkdir(parents=True, exist_ok=True)
    nvdec, rows = has_nvdec(), list[Row]()
    for gop in options.gops:
        path = work / f"video-{gop}.mp4"
        if not path.exists():
            make_video(path, options.seconds, options.picture, gop)
        for row in measured(path, nvdec, options.threads):
            rows.append({"gop": gop, **row})
            print(json.dumps(rows[-1]), flush=True)
            if options.out:
                _write(Path(options.out), rows, options)


def _write(out: Path, rows: list[Row], options: argparse.Namespace) -> None:
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()}
    video = {"seconds": options.seconds, "picture": options.picture}
    out.write_text(json.dumps({"machine": machine, "video": video, "rows": rows}, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="length of the made videos")
    parser.add_argument("--picture", default="1920x1080", help="size of the made videos")
    parser.add_argument("--gops", type=int, nargs="+", default=[50, 250], help="frames from key frame to key frame")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2, 4, 16], help="of each of several readers")
    parser.add_argument("--work", help="folder for the videos; kept if named")
    parser.add_argument("--out", help="file for the numbers as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
