"""What can be shown: a video is a row of scenes, one segment each; in a scene at most one kind of thing is shown.

Everything about a video follows from its script, so every question about it has an exact answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
MOTIONS = ("still", "left", "right", "up", "down")
CARD = "card"  # a coloured card with a digit on it
THINGS = (*SHAPES, CARD)
MOST_SHOWN = 4
LOOKS = 8  # free numbers of a scene: place, shade, background

# Pairs that no training video shows and no training question names: each shape lacks one colour.
HELD_OUT_PAIRS = frozenset(
    [("circle", "purple"), ("square", "yellow"), ("triangle", "black"), ("star", "red"), ("ring", "green")]
    + [("cross", "blue")]
)
SEGMENT_FRAMES = 8  # of the paper's sampling; a scene is as long as a segment
LONGEST_ROW = 128  # scenes of a video: what the paper's cap of 1,024 frames allows
SHORT_SCENE_S = 4  # at 2 frames a second
SCENE_LENGTHS_S = (4, 8, 12, 16, 20, 24, 28)  # longer ones only in videos of LONGEST_ROW scenes, up to an hour


@dataclass(frozen=True)
class Scene:
    """What one segment shows: ``count`` things of one kind, or nothing (``thing`` None). ``digit`` only on a card.

    ``look``: LOOKS numbers in [0, 1) for what no question asks about: place, shade, background.
    """

    look: tuple[float, ...]
    thing: str | None = None
    colour: str | None = None
    motion: str | None = None
    count: int = 0
    is_large: bool = True
    digit: int | None = None


@dataclass(frozen=True)
class Script:
    """A video's scenes in order, each ``scene_s`` seconds long."""

    scenes: tuple[Scene, ...]
    scene_s: int

    @property
    def duration_s(self) -> int:
        """Length of the video."""
        return len(self.scenes) * self.scene_s

    def span_s(self, index: int) -> tuple[int, int]:
        """Begin and end of a scene."""
        return index * self.scene_s, (index + 1) * self.scene_s


@dataclass(frozen=True)
class Habits:
    """How a script is drawn. ``quiet``: the share of scenes that show nothing.

    ``common``: the share of things that are of the video's one or two common kinds, which come again and again.
    ``with_held_out``: HELD_OUT_PAIRS may be shown, and are drawn for a third of the shapes. ``is_sparing``: the video
    has only some of the shapes and colours.
    """

    quiet: float = 0.4
    common: float = 0.2
    cards: float = 0.15
    with_held_out: bool = False
    is_sparing: bool = False


@dataclass(frozen=True)
class _Palette:
    """What a video is made of. Two colours at least: of one, a shape may be held out."""

    shapes: Sequence[str] = SHAPES
    colours: Sequence[str] = COLOURS

    @property
    def held_out(self) -> list[tuple[str, str]]:
        return [(shape, colour) for shape, colour in sorted(HELD_OUT_PAIRS) if self.has(shape, colour)]

    def has(self, shape: str, colour: str) -> bool:
        return shape in self.shapes and colour in self.colours


def draw_script(rng: random.Random, scenes: int, scene_s: int = SHORT_SCENE_S, habits: Habits | None = None) -> Script:
    """A random video of that many scenes."""
    habits = habits or Habits()
    palette = _sparing(rng) if habits.is_sparing else _Palette()
    common = [_thing(rng, habits, palette) for _ in range(rng.choice((1, 2)))]
    drawn: list[Scene] = []
    for _ in range(scenes):
        if rng.random() < habits.quiet:
            drawn.append(Scene(_look(rng)))
        elif rng.random() < habits.common:
            drawn.append(_again(rng, rng.choice(common)))
        else:
            drawn.append(_thing(rng, habits, palette))
    return Script(tuple(drawn), scene_s)


def is_held_out(thing: str | None, colour: str | None) -> bool:
    """Whether the model never saw that shape in that colour."""
    return (thing, colour) in HELD_OUT_PAIRS


def _sparing(rng: random.Random) -> _Palette:
    shapes = rng.sample(SHAPES, rng.randint(1, len(SHAPES)))
    return _Palette(shapes, rng.sample(COLOURS, rng.randint(2, len(COLOURS))))


def _thing(rng: random.Random, habits: Habits, palette: _Palette) -> Scene:
    if rng.random() < habits.cards:
        return Scene(_look(rng), CARD, rng.choice(palette.colours), "still", 1, True, rng.randrange(10))
    thing, colour = _pair(rng, palette, habits.with_held_out)
    motion = rng.choice(MOTIONS)
    return _placed(rng, thing, colour, motion)


def _again(rng: random.Random, scene: Scene) -> Scene:
    """The same kind of thing, in another number, at another place."""
    if scene.thing == CARD:
        return Scene(_look(rng), CARD, scene.colour, "still", 1, True, scene.digit)
    assert scene.thing is not None and scene.colour is not None
    return _placed(rng, scene.thing, scene.colour, rng.choice(MOTIONS))


def _placed(rng: random.Random, thing: str, colour: str, motion: str) -> Scene:
    """Only what stands still comes in numbers."""
    count = rng.randint(1, MOST_SHOWN) if motion == "still" else 1
    return Scene(_look(rng), thing, colour, motion, count, rng.random() < 0.5)


def _pair(rng: random.Random, palette: _Palette, with_held_out: bool) -> tuple[str, str]:
    if with_held_out and palette.held_out and rng.random() < 1 / 3:
        return rng.choice(palette.held_out)
    while True:
        pair = rng.choice(palette.shapes), rng.choice(palette.colours)
        if pair not in HELD_OUT_PAIRS:
            return pair


def _look(rng: random.Random) -> tuple[float, ...]:
    return tuple(rng.random() for _ in range(LOOKS))


def shown(scenes: Sequence[Scene]) -> list[int]:
    """Indices of the scenes that show something."""
    return [index for index, scene in enumerate(scenes) if scene.thing is not None]
