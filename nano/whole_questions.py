"""What is asked about a whole video: what is shown most often, first, last, and how many different ones.

Each function takes the scenes and what of them is asked about (``ASPECTS``), and gives the answer with the scenes that
it is read from, or None where there is no one right answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from nano.phrasings import Kind
from nano.world import SHAPES, Scene

Aspect = Literal["shape", "colour", "thing"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
MOST_DIFFERENT = 9
Found = tuple[str, tuple[int, ...]]


def _seen(scenes: Sequence[Scene], aspect: Aspect) -> dict[int, str]:
    """By scene what it shows; a card is a thing and has a colour, but is no shape."""
    names = {"shape": "{0.thing}", "colour": "{0.colour}", "thing": "{0.colour} {0.thing}"}
    return {
        index: names[aspect].format(scene)
        for index, scene in enumerate(scenes)
        if scene.thing is not None and (aspect != "shape" or scene.thing in SHAPES)
    }


def _most(seen: dict[int, str]) -> Found | None:
    """In at least one and a half times as many scenes as anything else: a few scenes more could not be told apart."""
    ranked = Counter(seen.values()).most_common(2)
    if len(ranked) < 2 or 2 * ranked[0][1] < 3 * ranked[1][1]:
        return None
    return ranked[0][0], tuple(seen)


def _first(seen: dict[int, str]) -> Found | None:
    return (seen[min(seen)], (min(seen),)) if seen else None


def _last(seen: dict[int, str]) -> Found | None:
    return (seen[max(seen)], (max(seen),)) if seen else None


def _different(seen: dict[int, str]) -> Found | None:
    number = len(set(seen.values()))
    return (str(number), tuple(seen)) if 1 <= number <= MOST_DIFFERENT else None


_ANSWERS: dict[Kind, Callable[[dict[int, str]], Found | None]] = {
    "most": _most,
    "first": _first,
    "last": _last,
    "different": _different,
}


def answer_about_whole(kind: Kind, scenes: Sequence[Scene], aspect: Aspect) -> Found | None:
    """The answer to a question of one of WHOLE_KINDS, and the scenes that it is read from."""
    return _ANSWERS[kind](_seen(scenes, aspect))
