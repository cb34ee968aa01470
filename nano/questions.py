"""Questions about a script, each with its exact answer and the scenes that bear on it.

A question names a kind of thing (``Sought``); what it asks about that thing is its kind. One about a whole video seeks
whatever is shown. Answers are bare labels.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from nano.phrasings import PHRASINGS, WHOLE_KINDS, Kind
from nano.whole_questions import ASPECTS, answer_about_whole
from nano.world import CARD, COLOURS, MOTIONS, SHAPES, Scene, Script, is_held_out, shown

MOST_TIMES = 4


@dataclass(frozen=True)
class Sought:
    """What a question is about; None fits everything. A scene that shows nothing is never sought."""

    thing: str | None = None
    colour: str | None = None
    motion: str | None = None

    def fits(self, scene: Scene) -> bool:
        """Whether a scene shows it."""
        pairs = ((self.thing, scene.thing), (self.colour, scene.colour), (self.motion, scene.motion))
        return scene.thing is not None and all(wanted in (None, shows) for wanted, shows in pairs)

    @property
    def name(self) -> str:
        """As a question says it."""
        noun = f"{self.colour or ''} {self.thing or 'thing'}".strip()
        return f"{noun} that moves {self.motion}" if self.motion else noun

    @property
    def names(self) -> str:
        """The plural."""
        return self.name + ("es" if self.name.endswith("s") else "s")


@dataclass(frozen=True)
class Question:
    """``relevant``: the scenes that show what is sought. ``evidence``: those that the answer is read from.

    ``novel_phrasing`` and ``novel_pair``: the model never saw that sentence, that shape in that colour.
    """

    kind: Kind
    text: str
    sought: Sought
    answer: str
    relevant: tuple[int, ...]
    evidence: tuple[int, ...]
    novel_phrasing: bool
    novel_pair: bool


@dataclass(frozen=True)
class _Case:
    """What is asked, before it is put into words. ``aspect``: of whatever is shown, in place of what is sought."""

    sought: Sought
    answer: str
    evidence: tuple[int, ...]
    aspect: str = ""

    def said(self, form: str) -> str:
        """In the words of a phrasing."""
        if self.aspect:
            return form.format(x=self.aspect, xs=f"{self.aspect}s")
        return asked_in(form, self.sought)


def draw_question(
    rng: random.Random, script: Script, kind: Kind, novel_phrasing: bool = False, with_held_out: bool = True
) -> Question | None:
    """A random question of that kind with one right answer, or None where the script allows none."""
    case = _about_whole(rng, script, kind) if kind in WHOLE_KINDS else _CASES[kind](rng, script)
    if case is None:
        return None
    novel_pair = _names_held_out(case, script)
    if novel_pair and not with_held_out:
        return None
    known = PHRASINGS[kind]
    text = known[-1] if novel_phrasing else rng.choice(known[:-1])
    relevant = tuple(index for index, scene in enumerate(script.scenes) if case.sought.fits(scene))
    return Question(
        kind=kind,
        text=case.said(text),
        sought=case.sought,
        answer=case.answer,
        relevant=relevant,
        evidence=case.evidence,
        novel_phrasing=novel_phrasing,
        novel_pair=novel_pair,
    )


def answers() -> list[str]:
    """Every label that can be an answer, except times."""
    pairs = [f"{colour} {thing}" for colour in COLOURS for thing in (*SHAPES, CARD)]
    return [*COLOURS, *SHAPES, CARD, *MOTIONS, *(str(digit) for digit in range(10)), "yes", "no", *pairs]


def sought_things() -> list[Sought]:
    """Everything that a question can be about."""
    named = [Sought(thing, colour) for thing in (*SHAPES, CARD, None) for colour in (*COLOURS, None)]
    moving = [Sought(motion=motion) for motion in MOTIONS[1:]]
    return [sought for sought in named if sought != Sought()] + moving


def _names_held_out(case: _Case, script: Script) -> bool:
    read = [script.scenes[index] for index in case.evidence]
    pairs = [(case.sought.thing, case.sought.colour), *((scene.thing, scene.colour) for scene in read)]
    return any(is_held_out(*pair) for pair in pairs)


def asked_in(form: str, sought: Sought) -> str:
    """A phrasing with the names of what is sought."""
    article = "an" if sought.name[0] in "aeiou" else "a"
    return form.format(x=sought.name, xs=sought.names, a=article)


def all_texts(kind: Kind, form: str) -> list[str]:
    """Every question of a kind in one phrasing."""
    if kind in WHOLE_KINDS:
        return [form.format(x=aspect, xs=f"{aspect}s") for aspect in ASPECTS]
    return [asked_in(form, sought) for sought in sought_things()]


def _only(rng: random.Random, script: Script, candidates: Callable[[Scene], list[Sought]]) -> tuple[Sought, int] | None:
    """Something that exactly one scene shows, described in one of the given ways, and that scene."""
    indices = shown(script.scenes)
    rng.shuffle(indices)
    for index in indices:
        ways = candidates(script.scenes[index])
        rng.shuffle(ways)
        for sought in ways:
            if sum(map(sought.fits, script.scenes)) == 1:
                return sought, index
    return None


def _by_name(scene: Scene) -> list[Sought]:
    """By thing, or by thing and colour."""
    return [Sought(scene.thing, scene.colour), Sought(scene.thing)]


def _by_motion(scene: Scene) -> list[Sought]:
    return [Sought(motion=scene.motion)] if scene.motion in MOTIONS[1:] else []


def _shape_only(ways: Callable[[Scene], list[Sought]]) -> Callable[[Scene], list[Sought]]:
    return lambda scene: ways(scene) if scene.thing in SHAPES else []


def _still_only(ways: Callable[[Scene], list[Sought]]) -> Callable[[Scene], list[Sought]]:
    """Shapes that stand still: others never come in numbers, and "1" would be the answer to most questions."""
    return lambda scene: ways(scene) if scene.thing in SHAPES and scene.motion == "still" else []


def _read_off(
    ways: Callable[[Scene], list[Sought]], answer: Callable[[Scene], str]
) -> Callable[[random.Random, Script], _Case | None]:
    """A question that one scene answers."""

    def case(rng: random.Random, script: Script) -> _Case | None:
        found = _only(rng, script, ways)
        return found and _Case(found[0], answer(script.scenes[found[1]]), (found[1],))

    return case


def _when(rng: random.Random, script: Script) -> _Case | None:
    """The middle of the scene, in whole seconds."""
    found = _only(rng, script, _by_name)
    return found and _Case(found[0], str(sum(script.span_s(found[1])) // 2), (found[1],))


def _after(rng: random.Random, script: Script) -> _Case | None:
    followed = {id(a) for a, b in zip(script.scenes, script.scenes[1:], strict=False) if b.thing is not None}
    found = _only(rng, script, lambda scene: _by_name(scene) if id(scene) in followed else [])
    if found is None:
        return None
    follower = script.scenes[found[1] + 1]
    return _Case(found[0], f"{follower.colour} {follower.thing}", (found[1], found[1] + 1))


def _times(rng: random.Random, script: Script) -> _Case | None:
    ways = list({sought: None for index in shown(script.scenes) for sought in _by_name(script.scenes[index])})
    numbers = {sought: len(_fitting(sought, script)) for sought in ways if _comes_apart(sought, script)}
    wanted = rng.randint(1, MOST_TIMES)
    fitting = [sought for sought in numbers if numbers[sought] == wanted]
    fitting = fitting or [sought for sought in numbers if numbers[sought] <= MOST_TIMES]
    if not fitting:
        return None
    sought = rng.choice(fitting)
    return _Case(sought, str(numbers[sought]), _fitting(sought, script))


def _happen(rng: random.Random, script: Script) -> _Case | None:
    """Half of them no, where that can be: most of those name a thing and a colour that are there, but not together."""
    indices = shown(script.scenes)
    if not indices:
        return None
    scene, other = script.scenes[rng.choice(indices)], script.scenes[rng.choice(indices)]
    if rng.random() < 0.5:
        sought = Sought(scene.thing, scene.colour)
        return _Case(sought, "yes", _fitting(sought, script))
    colours = [str(other.colour)] * (rng.random() < 0.7) + rng.sample(COLOURS, len(COLOURS))
    absent = (Sought(scene.thing, colour) for colour in colours)
    return next((_Case(one, "no", ()) for one in absent if not any(map(one.fits, script.scenes))), None)


def _about_whole(rng: random.Random, script: Script, kind: Kind) -> _Case | None:
    aspect = rng.choice(ASPECTS)
    found = answer_about_whole(kind, script.scenes, aspect)
    return found and _Case(Sought(), *found, aspect)


def _comes_apart(sought: Sought, script: Script) -> bool:
    """Whether each appearance is one thing alone, with other scenes between: else "how often" has two answers."""
    found = _fitting(sought, script)
    is_alone = all(script.scenes[index].count == 1 for index in found)
    return is_alone and all(after - before > 1 for before, after in pairwise(found))


def _fitting(sought: Sought, script: Script) -> tuple[int, ...]:
    return tuple(index for index, scene in enumerate(script.scenes) if sought.fits(scene))


_CASES: dict[Kind, Callable[[random.Random, Script], _Case | None]] = {
    "colour": _read_off(lambda scene: [Sought(scene.thing), *_by_motion(scene)], lambda scene: str(scene.colour)),
    "shape": _read_off(
        _shape_only(lambda scene: [Sought(colour=scene.colour), *_by_motion(scene)]), lambda scene: str(scene.thing)
    ),
    "count": _read_off(_still_only(_by_name), lambda scene: str(scene.count)),
    "motion": _read_off(_shape_only(_by_name), lambda scene: str(scene.motion)),
    "digit": _read_off(lambda scene: _by_name(scene) if scene.thing == CARD else [], lambda scene: str(scene.digit)),
    "happen": _happen,
    "when": _when,
    "after": _after,
    "times": _times,
}
