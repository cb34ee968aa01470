"""Questions about a script: the answer follows from it, and what training may not see is told."""

from __future__ import annotations

import random
import re

import pytest

from nano.phrasings import KINDS, PHRASINGS, WHOLE_KINDS, Kind
from nano.questions import Question, Sought, answers, draw_question
from nano.tables import training_texts
from nano.world import CARD, HELD_OUT_PAIRS, MOTIONS, SHAPES, Habits, Scene, Script, draw_script

LOOK = (0.5,) * 8
STAR = Scene(LOOK, "star", "blue", "left", 1)
CIRCLE = Scene(LOOK, "circle", "red", "up", 1)
TRIANGLES = Scene(LOOK, "triangle", "white", "still", 3)
SEVEN = Scene(LOOK, CARD, "green", "still", 1, True, 7)
NOTHING = Scene(LOOK)
SCRIPT = Script((NOTHING, STAR, CIRCLE, NOTHING, SEVEN, CIRCLE, TRIANGLES), 4)


def asked(kind: Kind, count: int = 60) -> list[Question]:
    rng = random.Random(1)
    drawn = (draw_question(rng, SCRIPT, kind) for _ in range(count))
    return [question for question in drawn if question is not None]


def said(kind: Kind) -> set[tuple[str, str]]:
    """What is sought, and the answer."""
    return {(question.sought.name, question.answer) for question in asked(kind)}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("colour", {("star", "blue"), ("card", "green"), ("thing that moves left", "blue"), ("triangle", "white")}),
        ("shape", {("blue thing", "star"), ("thing that moves left", "star"), ("white thing", "triangle")}),
        ("count", {("triangle", "3"), ("white triangle", "3")}),
        ("motion", {("star", "left"), ("blue star", "left"), ("triangle", "still"), ("white triangle", "still")}),
        ("digit", {("card", "7"), ("green card", "7")}),
        ("when", {("star", "6"), ("blue star", "6"), ("card", "18"), ("green card", "18"), ("triangle", "26")}
         | {("white triangle", "26")}),
        ("after", {("star", "red circle"), ("blue star", "red circle"), ("card", "red circle")}
         | {("green card", "red circle")}),
        ("times", {("circle", "2"), ("red circle", "2"), ("star", "1"), ("blue star", "1"), ("card", "1")}
         | {("green card", "1")}),
    ],
)  # fmt: skip
def test_the_answer_follows_from_the_script(kind: Kind, expected: set[tuple[str, str]]) -> None:
    assert said(kind) == expected


def test_whether_it_happens_is_yes_where_a_scene_shows_it() -> None:
    for question in asked("happen"):
        assert question.answer == ("yes" if any(map(question.sought.fits, SCRIPT.scenes)) else "no")
    assert {question.answer for question in asked("happen")} == {"yes", "no"}


def test_what_appears_twice_is_never_asked_about_as_if_once() -> None:
    once: tuple[Kind, ...] = ("colour", "count", "motion", "digit", "when", "after")
    assert not any("circle" in question.sought.name for kind in once for question in asked(kind))


def test_the_relevant_scenes_are_those_that_show_what_is_sought() -> None:
    assert {question.relevant for question in asked("times") if question.sought == Sought("circle")} == {(2, 5)}


def test_how_often_is_not_asked_where_two_answers_could_be_right() -> None:
    many, twice = Script((TRIANGLES, NOTHING), 4), Script((CIRCLE, CIRCLE, NOTHING), 4)
    assert [draw_question(random.Random(1), script, "times") for script in (many, twice)] == [None, None]


def test_what_comes_after_is_read_from_the_next_scene() -> None:
    assert {(question.relevant, question.evidence) for question in asked("after")} == {((1,), (1, 2)), ((4,), (4, 5))}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("most", {"Which shape appears most often?": "circle", "Which colour appears most often?": "red"}
         | {"Which thing appears most often?": "red circle"}),
        ("first", {"Which shape comes first?": "star", "Which colour comes first?": "blue"}
         | {"Which thing comes first?": "blue star"}),
        ("last", {"Which shape comes last?": "triangle", "Which colour comes last?": "white"}
         | {"Which thing comes last?": "white triangle"}),
        ("different", {"How many different shapes are shown?": "3", "How many different colours are shown?": "4"}
         | {"How many different things are shown?": "4"}),
    ],
)  # fmt: skip
def test_what_is_asked_about_the_whole_follows_from_all_scenes(kind: Kind, expected: dict[str, str]) -> None:
    told = {question.text: question.answer for question in asked(kind, 300)}
    assert {text: told.get(text) for text in expected} == expected


def test_what_is_nearly_as_often_as_another_is_not_asked_about() -> None:
    scenes = (STAR, STAR, CIRCLE, CIRCLE, NOTHING, STAR, TRIANGLES)
    assert all(draw_question(random.Random(seed), Script(scenes, 4), "most") is not None for seed in range(9))
    nearly = Script((*scenes, CIRCLE, STAR), 4)  # four and three
    assert all(draw_question(random.Random(seed), nearly, "most") is None for seed in range(9))


def test_a_question_about_the_whole_bears_on_every_scene_that_shows_something() -> None:
    assert {question.relevant for kind in WHOLE_KINDS for question in asked(kind)} == {(1, 2, 4, 5, 6)}


@pytest.mark.parametrize("kind", PHRASINGS)
def test_a_script_that_shows_nothing_answers_nothing(kind: Kind) -> None:
    assert draw_question(random.Random(1), Script((NOTHING,) * 5, 4), kind) is None


def test_answers_are_bare_labels() -> None:
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)?|\d", answer) for answer in answers())
    assert {*SHAPES, *MOTIONS, "yes", "no", "4", "red circle", "green card"} <= set(answers())


@pytest.mark.parametrize("kind", PHRASINGS)
def test_there_are_several_phrasings_of_each_kind(kind: Kind) -> None:
    assert len(set(PHRASINGS[kind])) >= 5


@pytest.mark.parametrize("kind", PHRASINGS)
def test_training_never_asks_in_the_last_phrasing(kind: Kind) -> None:
    novel = draw_question(random.Random(1), SCRIPT, kind, novel_phrasing=True)
    assert novel is not None and novel.novel_phrasing
    assert novel.text not in training_texts((*KINDS, *WHOLE_KINDS))


def test_every_training_question_has_its_row_in_the_tables() -> None:
    rng, texts = random.Random(2), set(training_texts())
    for _ in range(30):
        script = draw_script(rng, 16)
        drawn = (draw_question(rng, script, kind, with_held_out=False) for kind in KINDS)
        assert all(question.text in texts for question in drawn if question is not None)


def test_a_question_about_a_held_out_pair_says_so() -> None:
    thing, colour = sorted(HELD_OUT_PAIRS)[0]
    script = Script((Scene(LOOK, thing, colour, "still", 1),), 4)
    question = draw_question(random.Random(1), script, "colour")
    assert question is not None and question.novel_pair
    assert draw_question(random.Random(1), script, "colour", with_held_out=False) is None


def test_training_is_never_asked_about_held_out_pairs_that_are_absent_either() -> None:
    rng = random.Random(5)
    scripts = [draw_script(rng, 16, habits=Habits(quiet=0.1)) for _ in range(100)]
    drawn = [draw_question(rng, script, "happen", with_held_out=False) for script in scripts for _ in range(5)]
    named = {(one.sought.thing, one.sought.colour) for one in drawn if one is not None}
    assert not named & HELD_OUT_PAIRS


@pytest.mark.parametrize(("name", "article"), [(Sought("circle", "orange"), "an"), (Sought("circle", "red"), "a")])
def test_articles_fit_what_follows(name: Sought, article: str) -> None:
    script = Script((Scene(LOOK, name.thing, name.colour, "still", 1),), 4)
    found = {
        q.text for s in range(20) if (q := draw_question(random.Random(s), script, "happen")) and "yes" in q.answer
    }
    assert found and all(f" {article} {name.name}" in text for text in found)
