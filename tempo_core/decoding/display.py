"""How coded samples become the picture that players show: pixel shape, orientation, colour."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from tempo_core.decoding.video import ColorTags
from tempo_core.errors import VideoError

_MAX_PIXEL_ASPECT = 10  # real ones lie within 1:3 and 3:1; a damaged header is ignored
_HD_HEIGHT = 720

# ISO/IEC 23091-2 (H.273) code points, in the names that ffmpeg's filters take.
_TRANSFERS = {1: "bt709", 16: "smpte2084", 18: "arib-std-b67"}
_MATRICES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc", 10: "bt2020c"}
# Those that ffmpeg's scaler reads; it refuses a picture that carries any other.
_READ_TRANSFERS = frozenset({*range(1, 19)} - {3})
_READ_MATRICES = frozenset({*_MATRICES, 2})
_READ_PRIMARIES = frozenset({*range(1, 13), 22} - {3})
_PRIMARIES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020", 12: "smpte432"}


def displayed_size(facts: dict[str, Any]) -> tuple[int, int]:
    """(width, height) in square pixels, upright. Pixels are stretched along their shorter side, as players do it.

    VideoError where the file gives no size.
    """
    width, height = _cropped_size(facts)
    if width <= 0 or height <= 0:
        raise VideoError(f"the {facts['codec']} video stream has no picture size: no frame of it can be decoded")
    aspect = Fraction(facts["aspect"]) if facts["aspect"] else Fraction(1)
    if not Fraction(1, _MAX_PIXEL_ASPECT) <= aspect <= _MAX_PIXEL_ASPECT:
        aspect = Fraction(1)
    if aspect >= 1:
        width = max(1, round(width * aspect))
    else:
        height = max(1, round(height / aspect))
    return (height, width) if swaps_edges(orientation(facts["matrix"])) else (width, height)


def _cropped_size(facts: dict[str, Any]) -> tuple[int, int]:
    """(width, height) as coded, less what the container cuts off."""
    left, right, top, bottom = facts["crop"] or (0, 0, 0, 0)
    return int(facts["width"]) - left - right, int(facts["height"]) - top - bottom


def cropping(facts: dict[str, Any]) -> tuple[int, int, int, int] | None:
    """(width, height, left, top) of what the container leaves of the coded picture; None for the whole picture."""
    if not facts["crop"]:
        return None
    left, _, top, _ = facts["crop"]
    return (*_cropped_size(facts), left, top)


def orientation(matrix: Sequence[int] | None) -> tuple[tuple[str, str], ...]:
    """The ffmpeg filters, (name, argument), that do what a display matrix asks for: quarter turns and mirrors.

    The matrix is [a b u; c d v; x y w] (ISO/IEC 14496-12). A turn by another angle is rounded to a quarter.
    """
    if matrix is None:
        return ()
    a, b, _, c, d = matrix[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (*((("hflip", ""),) if a < 0 else ()), *((("vflip", ""),) if d < 0 else ()))
    if b > 0:
        return (("transpose", "cclock_flip" if c > 0 else "clock"),)
    return (("transpose", "clock_flip" if c < 0 else "cclock"),)


def swaps_edges(filters: Sequence[tuple[str, str]]) -> bool:
    """Whether the upright picture is as wide as the coded one is high."""
    return any(name == "transpose" for name, _ in filters)


def color_tags(facts: dict[str, Any]) -> ColorTags:
    """Transfer, matrix and primaries; a matrix that is not tagged, or with a reserved value, is BT.709 for HD pictures,
    as players assume."""
    transfer, matrix, primaries = facts["color"]
    read = {
        "color_trc": transfer in _READ_TRANSFERS,
        "colorspace": matrix in _READ_MATRICES and (matrix != 0 or facts["rgb"]),
        "color_primaries": primaries in _READ_PRIMARIES,
    }
    name = _MATRICES.get(matrix) if read["colorspace"] else None
    if name is None and min(int(facts["width"]), int(facts["height"])) >= _HD_HEIGHT:
        name = "bt709"
    refused = tuple(tag for tag, is_read in read.items() if not is_read)
    return ColorTags(_TRANSFERS.get(transfer), name, _PRIMARIES.get(primaries), refused)
