"""Frames to what the vision tower takes, and to what is kept of them. numpy and Pillow only."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tempo_core.errors import VideoError
from tempo_core.values import ByteArray, SegmentPixels

PATCH = 16  # pixels along a patch's edge
MERGE = 2  # patches along the edge of a block that becomes one visual token
PAIR = 2  # frames that share a patch
ENCODED_AT_A_TIME = 16  # segments in one forward pass of the vision tower: 50 MB of pixels at 512x256


def patchify(frames: ByteArray) -> tuple[ByteArray, tuple[int, int, int]]:
    """uint8 [n, height, width, 3] to (uint8 [t*h*w, 1536], (t, h, w)): t frame pairs, h x w patches.

    An odd count repeats its last frame. Rows run in merge-block order (2 x 2 patches together); within a row:
    channel, time, height, width. The tower's values are (x - 127.5) / 127.5. ValueError unless both edges are multiples
    of 32.
    """
    count, height, width, channels = frames.shape
    if height % (PATCH * MERGE) or width % (PATCH * MERGE) or channels != 3 or not count:
        raise ValueError(f"frames of shape {frames.shape} have no whole number of patches")
    if count % PAIR:
        frames = np.concatenate([frames, frames[-1:]])
    pairs, rows, columns = len(frames) // PAIR, height // PATCH, width // PATCH
    split = frames.reshape(pairs, PAIR, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3)
    # pair, block row, block column, row in block, column in block | channel, time, height, width
    ordered = split.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return ordered.reshape(pairs * rows * columns, 3 * PAIR * PATCH * PATCH), (pairs, rows, columns)


def encode_jpeg(frames: ByteArray, quality: int) -> list[bytes]:
    """uint8 [n, height, width, 3] to n JPEG files. The same frames give the same bytes."""
    return [_encoded(frame, quality) for frame in frames]


def decode_jpeg(files: Sequence[bytes]) -> ByteArray:
    """JPEG files of one size to uint8 [n, height, width, 3]. VideoError where one cannot be decoded."""
    frames = [_decoded(index, content) for index, content in enumerate(files)]
    if len({frame.shape for frame in frames}) > 1:
        raise VideoError("the kept frames differ in size: the part is damaged, index the video again")
    return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)


def kept_pixels(files: Sequence[bytes], pair_times_s: tuple[float, ...]) -> SegmentPixels:
    """A segment's kept frames, as JPEG files, as the vision tower takes them: the one way from them to states.

    VideoError where they cannot be decoded, or are not frames that were kept for a segment.
    """
    frames = decode_jpeg(files)
    try:
        patches, grid_thw = patchify(frames)
    except ValueError as error:
        raise VideoError(f"the kept frames are damaged, index the video again: {error}") from error
    return SegmentPixels(patches, grid_thw, pair_times_s)


def _encoded(frame: ByteArray, quality: int) -> bytes:
    # 4:2:0 saves a third of the bytes, but stays below 45 dB at any quality, where 4:4:4 has 49 to 51 (golden frames).
    buffer = io.BytesIO()
    # Tables made for each picture (optimize) would save 5% of the bytes, and take 4.5 times as long.
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality, subsampling="4:4:4")
    return buffer.getvalue()


def _decoded(index: int, content: bytes) -> ByteArray:
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"kept frame {index} cannot be decoded, index the video again: {error}") from error
