"""The size a frame is resampled to, once: three roundings in a row, as the published method sizes frames."""

from __future__ import annotations

import math

from tempo_core.errors import VideoError
from tempo_core.spec import FrameGeometry


def frame_size(width: int, height: int, geometry: FrameGeometry) -> tuple[int, int]:
    """(width, height) in square pixels, as displayed, to the final (width, height).

    The published code resizes three times; sizes are folded here so that pixels are resampled once.
    VideoError where the ratio of the edges exceeds ``geometry.max_edge_ratio``.
    """
    if max(width, height) > geometry.max_edge_ratio * min(width, height):
        raise VideoError(f"the picture of {width}x{height} is too elongated (edges over {geometry.max_edge_ratio:g}:1)")
    size = _limit_longest_edge(width, height, geometry)
    size = _resize_step(*size, geometry)
    return _patch_step(*size, geometry)


def visual_tokens(width: int, height: int, patch: int = 16, merge: int = 2) -> int:
    """Visual tokens of one frame pair of that final size."""
    return (width // (patch * merge)) * (height // (patch * merge))


def _limit_longest_edge(width: int, height: int, geometry: FrameGeometry) -> tuple[int, int]:
    longest = max(width, height)
    if longest <= geometry.longest_edge:
        return width, height
    scale, multiple = geometry.longest_edge / longest, geometry.edge_multiple
    return _nearest(width * scale, multiple), _nearest(height * scale, multiple)


def _resize_step(width: int, height: int, geometry: FrameGeometry) -> tuple[int, int]:
    multiple = geometry.resize_multiple
    new_width, new_height = _nearest(width, multiple), _nearest(height, multiple)
    if new_width * new_height < geometry.min_resized_area:
        return _grow(width, height, geometry.min_resized_area, multiple)
    return new_width, new_height


def _patch_step(width: int, height: int, geometry: FrameGeometry) -> tuple[int, int]:
    multiple = geometry.patch_multiple
    new_width, new_height = _nearest(width, multiple), _nearest(height, multiple)
    if new_width * new_height > geometry.max_area:
        scale = math.sqrt(width * height / geometry.max_area)
        return _floor(width / scale, multiple), _floor(height / scale, multiple)
    if new_width * new_height < geometry.min_area:
        return _grow(width, height, geometry.min_area, multiple)
    return new_width, new_height


def _grow(width: int, height: int, min_area: int, multiple: int) -> tuple[int, int]:
    scale = math.sqrt(min_area / (width * height))
    return math.ceil(width * scale / multiple) * multiple, math.ceil(height * scale / multiple) * multiple


def _nearest(edge: float, multiple: int) -> int:
    return max(multiple, round(edge / multiple) * multiple)


def _floor(edge: float, multiple: int) -> int:
    return max(multiple, math.floor(edge / multiple) * multiple)
