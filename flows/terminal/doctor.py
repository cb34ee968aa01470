"""What is installed, what is missing and how to get it: the checks behind ``tempo doctor``."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.embedded import EMBEDDED_ID
from flows.models import find_model, model_notice
from flows.text import counted, size
from tempo_core.errors import NotFetched, TempoError
from tempo_core.host import cpu_count, memory_bytes
from tempo_core.user_cache import cache_folder

DEADLINE_S = 30.0
LEAST_DISK, LEAST_MEMORY = 2 * 10**9, 4 * 10**9
_PACKAGES = {  # distribution: what it is for
    "transformers": "models",
    "safetensors": "weights",
    "lancedb": "features and catalog",
    "pyarrow": "segment states",
    "av": "reading containers",
    "s3fs": "libraries and sources on S3",
    "ray": "many videos at once, on one machine or many",
    "prefect": "nightly runs",
}
_CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video")
_HARDWARE = ("_cuvid", "_qsv", "_videotoolbox", "_v4l2m2m", "_vaapi")


@dataclass(frozen=True)
class Check:
    """One thing that was examined, and what was ``found``. ``needed``: nothing works without it. ``advice``: the way to
    get it."""

    name: str
    ok: bool
    found: str
    needed: bool = True
    advice: str | None = None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def run_checks(model: str) -> list[Check]:
    """All checks, in the order they are shown. ``model``: the one that is to be used."""
    packages = [_package(name, use) for name, use in _PACKAGES.items()]
    return [_python(), *_torch(), *packages, *_ffmpeg(), _memory(), *_disks(), *_model(model)]


def healthy(checks: list[Check]) -> bool:
    return all(check.ok for check in checks if check.needed)


def _python() -> Check:
    fits = (3, 11) <= sys.version_info < (3, 13)
    advice = None if fits else "install Python 3.11 or 3.12"
    return Check("python", fits, f"{platform.python_version()} ({sys.executable})", advice=advice)


def _torch() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check("torch", False, f"not usable: {error}", advice="pip install 'torch>=2.11'")
        return
    yield Check("torch", True, str(torch.__version__))
    if not torch.cuda.is_available():
        advice = "the embedded model needs no GPU; Tempo-6B is slow without one"
        yield Check("device", True, f"cpu, {torch.get_num_threads()} threads", needed=False, advice=advice)
        return
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        yield Check("device", True, f"cuda:{number} {card.name}, {size(card.total_memory)}", needed=False)


def _package(name: str, use: str) -> Check:
    try:
        version = importlib.metadata.version(name)
        importlib.import_module(name)
    except (ImportError, OSError) as error:
        return Check(name, False, f"not usable: {error}", advice=f"pip install {name}  ({use})")
    return Check(name, True, version)


def _ffmpeg() -> Iterator[Check]:
    from tempo_core.decoding import find_ffmpeg

    advice = "install ffmpeg, set TEMPO_FFMPEG to its path, or pip install imageio-ffmpeg"
    try:
        path = find_ffmpeg()
        version = _ask(path, "-version").splitlines()[0]
    except (TempoError, OSError, subprocess.SubprocessError, IndexError) as error:
        yield Check("ffmpeg", False, f"not usable: {error}", advice=advice)
        return
    yield Check("ffmpeg", True, f"{version.split(' Copyright')[0]} ({path})")
    yield from _decoders(_ask(path, "-decoders"))


def _decoders(listing: str) -> Iterator[Check]:
    lines = [line.split() for line in listing.splitlines()]
    names = {words[1] for words in lines if len(words) > 1}
    readable = {words[-1].rstrip(")") for words in lines if "(codec" in words} | names
    missing = [codec for codec in _CODECS if codec not in readable]
    summary = "all of " + ", ".join(_CODECS) if not missing else "missing: " + ", ".join(missing)
    advice = "use a fuller ffmpeg build to read such videos" if missing else None
    yield Check("decoders", not missing, summary, needed=False, advice=advice)
    hardware = sorted(name for name in names if name.endswith(_HARDWARE))
    yield Check("hardware decoders", True, ", ".join(hardware) or "none in this build", needed=False)


def _ask(path: str, question: str) -> str:
    command = [path, "-hide_banner", "-nostdin", question] if question != "-version" else [path, question]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout


def _memory() -> Check:
    usable = memory_bytes()
    enough = usable >= LEAST_MEMORY
    advice = None if enough else f"at least {size(LEAST_MEMORY)} is recommended"
    return Check("memory", enough, f"{size(usable)}, {counted(cpu_count(), 'CPU')}", needed=False, advice=advice)


def _disks() -> Iterator[Check]:
    folder = cache_folder()  # without it weights are hashed again by each run
    if folder is not None:
        yield _disk("cache", folder, needed=False)
    else:
        yield Check("cache", False, "this user has no home folder", needed=False, advice="set XDG_CACHE_HOME")
    yield _disk("scratch", Path(tempfile.gettempdir()), needed=True)


def _disk(name: str, folder: Path, needed: bool) -> Check:
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        way_out = "set XDG_CACHE_HOME or TMPDIR to another folder"
        return Check(name, False, f"{folder} cannot be written", needed, way_out)
    free = shutil.disk_usage(existing).free
    advice = None if free >= LEAST_DISK else f"free at least {size(LEAST_DISK)}"
    return Check(name, free >= LEAST_DISK, f"{folder}, {size(free)} free", needed=False, advice=advice)


def _model(model: str) -> Iterator[Check]:
    """What the model is, whether all of it is here, and whether it fits into memory."""
    notice = model_notice(model)
    try:
        kind, weights = find_model(model)
        parameters = weights.parameter_count()
    except NotFetched as error:
        yield Check("model", False, str(error), needed=False, advice=f"hf download {error.hub_id}")
        return
    except TempoError as error:
        yield Check("model", False, str(error), advice=notice)
        return
    yield Check("model", True, f"{model}: {kind}, {parameters:,} parameters", needed=False, advice=notice)
    yield _room_for(parameters, halved=model != EMBEDDED_ID)


def _room_for(parameters: int, halved: bool) -> Check:
    """Weights only: KV caches and activations come on top, within what is left. ``halved``: a GPU takes bfloat16."""
    import torch

    on_gpu = torch.cuda.is_available()
    needed = parameters * (2 if on_gpu and halved else 4)
    usable = torch.cuda.get_device_properties(0).total_memory if on_gpu else memory_bytes()
    where = f"{'on the GPU' if on_gpu else 'of memory'}, in {'bfloat16' if on_gpu and halved else 'float32'}"
    advice = None if needed < usable else "take a smaller model, or a machine with more memory"
    return Check(
        "room for it", needed < usable, f"{size(needed)} {where}, of {size(usable)}", needed=False, advice=advice
    )
