"""A real ``transformers serve`` on loopback; run as a module, this is transformers' command line itself.

``make test`` puts what it needs beyond this project's own dependencies into a folder of its own: beside a torch without
CUDA, a torchvision that is found breaks the import of transformers' Qwen3-VL.
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import torch
from PIL import Image

from tests.support.prefect_server import HOST, group, until

NEEDED = Path(sys.prefix, "transformers-serve")
START_DEADLINE_S = 200


@contextmanager
def transformers_serve(folder: Path) -> Iterator[str]:
    """The address of its API, killed at the end. ``folder``: where its log goes."""
    with closing(socket.create_server((HOST, 0))) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", __name__, "serve", "--host", HOST, "--port", str(port), "--device", "cpu"]
    log_file = folder / "serve.log"
    with log_file.open("wb") as log, group(command, {"PYTHONPATH": str(NEEDED)}, log) as process:

        def look() -> bool | None:
            assert process.poll() is None, log_file.read_text()
            with contextlib.suppress(OSError):  # it does not listen yet
                return bool(urlopen(f"http://{HOST}:{port}/health", timeout=5).read())
            return None

        until(look, "transformers serve", START_DEADLINE_S)
        yield f"http://{HOST}:{port}/v1"


def stand_in_for_operators() -> None:
    """torchvision's wheel is made for CUDA: without it none of its operators loads, and torchvision is not imported.

    The two that it describes to torch must be declared for that; no processor of Qwen3-VL calls them. The one that is
    called, which decodes an image, is Pillow's here.
    """
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torchvision_io: Any = import_module("torchvision.io")
    torchvision_io.decode_image = decoded


def decoded(encoded: torch.Tensor, mode: Any, apply_exif_orientation: bool) -> torch.Tensor:
    """(3, height, width), bytes."""
    image = Image.open(io.BytesIO(encoded.numpy().tobytes())).convert(mode.name)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def main() -> None:
    found = find_spec("torchvision")
    assert found and found.origin, f"`make test` puts torchvision into {NEEDED}"
    try:
        torch.ops.load_library(Path(found.origin).with_name("_C.so"))
    except OSError:
        stand_in_for_operators()
    import_module("transformers.cli.transformers").app()


if __name__ == "__main__":
    main()
