"""Scenes to frames, on whatever device: the same code draws the training batches and the video files.

Shapes: B scenes, F frames, E pixels along an edge, G things shown. Coordinates run over 0..1 of the frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from nano.world import CARD, COLOURS, MOST_SHOWN, MOTIONS, SEGMENT_FRAMES, SHAPES, THINGS, Scene

Tensor = torch.Tensor

FRAME_EDGE = 96  # what the model sees: 3 x 3 visual tokens a frame pair
STEP = 0.055  # of the frame: what a moving thing moves from one sampled frame to the next
LARGE, SMALL = 0.165, 0.095  # radius
_PAINTS = (
    (0.86, 0.10, 0.12), (1.0, 0.52, 0.05), (0.96, 0.90, 0.15), (0.10, 0.62, 0.20),
    (0.12, 0.30, 0.90), (0.55, 0.14, 0.72), (0.98, 0.98, 0.98), (0.03, 0.03, 0.03),
)  # fmt: skip
# Where up to four things stand: a place at a time, so that any number of them is spread over the frame.
_PLACES = ((0.27, 0.27), (0.73, 0.73), (0.73, 0.27), (0.27, 0.73))
# Segments of a seven-segment digit, as rectangles (x, y, half width, half height), and which digits light them.
_BARS = (
    (0.0, -0.8, 0.42, 0.12, "02356789"), (0.0, 0.0, 0.42, 0.12, "2345689"), (0.0, 0.8, 0.42, 0.12, "0235689"),
    (-0.42, -0.4, 0.12, 0.5, "045689"), (0.42, -0.4, 0.12, 0.5, "01234789"),
    (-0.42, 0.4, 0.12, 0.5, "0268"), (0.42, 0.4, 0.12, 0.5, "013456789"),
)  # fmt: skip


@dataclass(frozen=True)
class SceneBatch:
    """Scenes as numbers, each [B] or [B, LOOKS]; ``thing`` and ``digit`` are -1 where there is none."""

    thing: Tensor
    colour: Tensor
    motion: Tensor
    count: Tensor
    is_large: Tensor
    digit: Tensor
    look: Tensor

    def to(self, device: torch.device | str) -> SceneBatch:
        """The same on another device."""
        return SceneBatch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


def batch_scenes(scenes: Sequence[Scene]) -> SceneBatch:
    """Scenes as numbers."""
    return SceneBatch(
        thing=torch.tensor([-1 if s.thing is None else THINGS.index(s.thing) for s in scenes]),
        colour=torch.tensor([0 if s.colour is None else COLOURS.index(s.colour) for s in scenes]),
        motion=torch.tensor([0 if s.motion is None else MOTIONS.index(s.motion) for s in scenes]),
        count=torch.tensor([s.count for s in scenes]),
        is_large=torch.tensor([s.is_large for s in scenes]),
        digit=torch.tensor([-1 if s.digit is None else s.digit for s in scenes]),
        look=torch.tensor([s.look for s in scenes]),
    )


def render(scenes: SceneBatch, moments: Tensor, edge: int = FRAME_EDGE) -> Tensor:
    """float [B, F, E, E, 3] in 0..1; ``moments`` [B or 1, F]: when in the scene, counted in sampled frames (0..8)."""
    line = (torch.arange(edge, device=moments.device) + 0.5) / edge
    x, y = line[None, None, None, :], line[None, None, :, None]  # [1, 1, 1, E] and [1, 1, E, 1]
    ground = _background(scenes.look, moments, x, y)
    paint = torch.tensor(_PAINTS, device=moments.device)[scenes.colour]
    paint = (paint + (scenes.look[:, 2:3] - 0.5) * 0.08).clamp(0, 1)[:, None, None, None, :]
    dx, dy, radius = _nearest(scenes, moments, x, y)
    inside = _coverage(_shape(scenes.thing, dx / radius, dy / radius) * radius, edge)
    inside = inside * ((scenes.thing >= 0) & (scenes.thing < len(SHAPES)))[:, None, None, None]
    picture = ground + (paint - ground) * inside[..., None]
    return _with_card(picture, scenes, paint, x, y)


def sampled_moments(device: torch.device | str = "cpu") -> Tensor:
    """[1, 8]: when in a scene the frames of its segment are sampled."""
    return torch.arange(SEGMENT_FRAMES, device=device, dtype=torch.float32)[None]


def _coverage(distance: Tensor, edge: int) -> Tensor:
    """Antialiased: 1 inside, 0 outside, a ramp of a pixel between."""
    return (0.5 - distance * edge).clamp(0, 1)


def _background(look: Tensor, moments: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Grey with a tint; plain, shaded, or with stripes that drift."""
    level, tint, angle = 0.36 + 0.26 * look[:, 4], look[:, 5] * 2 * math.pi, look[:, 6] * 2 * math.pi
    u = (angle.cos()[:, None, None, None] * x + angle.sin()[:, None, None, None] * y).expand(
        -1, moments.shape[1], -1, -1
    )
    kind = (look[:, 3] * 3).long()[:, None, None, None]
    drift = (look[:, 7] - 0.5)[:, None, None, None] * moments[:, :, None, None]
    wave = torch.where(kind == 1, (u - 0.5) * 0.14, torch.where(kind == 2, 0.05 * (u * 25 + drift).sin(), 0.0))
    grey = level[:, None, None, None] + wave
    shift = torch.stack([(tint + k * 2 * math.pi / 3).cos() * 0.035 for k in range(3)], dim=-1)
    return (grey[..., None] + shift[:, None, None, None, :]).clamp(0, 1)


def _nearest(scenes: SceneBatch, moments: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets from the centre of the nearest thing shown, [B, F, E, E] each, and the radius [B, 1, 1, 1]."""
    look, count = scenes.look, scenes.count
    radius = torch.where(scenes.is_large, LARGE, SMALL)[:, None, None, None]
    travel = (moments - (SEGMENT_FRAMES - 1) / 2) * STEP
    away = torch.tensor([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], device=look.device)[scenes.motion]
    best_x = best_y = torch.full((1,), 9.0, device=look.device)
    for place, (left, top) in enumerate(_PLACES):
        many = count > 1
        jitter = (look[:, :2] - 0.5) * 0.08
        free = 0.5 + (look[:, :2] - 0.5) * torch.where(away == 0, 0.5, 0.26)  # one thing stands or moves anywhere
        centre_x = torch.where(many, left + jitter[:, 0], free[:, 0])[:, None] + travel * away[:, :1]
        centre_y = torch.where(many, top + jitter[:, 1], free[:, 1])[:, None] + travel * away[:, 1:]
        dx, dy = x - centre_x[:, :, None, None], y - centre_y[:, :, None, None]
        nearer = (dx.square() + dy.square() < best_x.square() + best_y.square()) & (count > place)[:, None, None, None]
        best_x, best_y = torch.where(nearer, dx, best_x), torch.where(nearer, dy, best_y)
    assert len(_PLACES) == MOST_SHOWN
    return best_x, best_y, radius


def _shape(thing: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Signed distance (about) to the outline, in radii."""
    far, ax, ay = (u.square() + v.square()).sqrt(), u.abs(), v.abs()
    distances = {
        "circle": far - 0.9,
        "square": torch.maximum(ax, ay) - 0.8,
        "triangle": torch.maximum(v - 0.7, ax * 0.87 - v * 0.5 - 0.48),
        "star": _star(u, v),
        "ring": (far - 0.72).abs() - 0.24,
        "cross": torch.minimum(torch.maximum(ax - 0.95, ay - 0.28), torch.maximum(ax - 0.28, ay - 0.95)),
    }
    which = thing[:, None, None, None]
    chosen = distances["circle"]
    for number, shape in enumerate(SHAPES[1:], start=1):
        chosen = torch.where(which == number, distances[shape], chosen)
    return chosen


def _star(u: Tensor, v: Tensor) -> Tensor:
    """Five points: inside at least four of the five half planes of a pentagram, so the second largest distance."""
    most = second = torch.full_like(u, -9.0)
    for point in range(5):
        angle = math.pi / 2 + point * 2 * math.pi / 5
        side = u * math.cos(angle) + v * math.sin(angle) - 0.38
        second = torch.maximum(second, torch.minimum(most, side))
        most = torch.maximum(most, side)
    return second


def _with_card(picture: Tensor, scenes: SceneBatch, paint: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """A coloured card with a digit, dark on a light card and light on a dark one."""
    edge = picture.shape[2]
    centre = 0.5 + (scenes.look[:, :2] - 0.5) * 0.2
    dx, dy = x - centre[:, 0, None, None, None], y - centre[:, 1, None, None, None]
    card = _coverage(torch.maximum(dx.abs() - 0.26, dy.abs() - 0.34), edge)
    card = card * (scenes.thing == THINGS.index(CARD))[:, None, None, None]
    ink = (paint.mean(-1, keepdim=True) < 0.55).float()
    strokes = torch.zeros_like(card)
    for left, top, half_width, half_height, digits in _BARS:
        lit = torch.tensor([str(digit) in digits for digit in range(10)] + [False], device=dx.device)[scenes.digit]
        bar = torch.maximum((dx / 0.24 - left).abs() - half_width, (dy / 0.26 - top).abs() - half_height) * 0.24
        strokes = torch.maximum(strokes, _coverage(bar, edge) * lit[:, None, None, None])
    picture = picture + (paint - picture) * card[..., None]
    return picture + (ink - picture) * (strokes * card)[..., None]
