"""The world's scripts: what can be shown, what is held back from training."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from nano.render import FRAME_EDGE, batch_scenes, render, sampled_moments
from nano.world import (
    CARD,
    COLOURS,
    HELD_OUT_PAIRS,
    MOST_SHOWN,
    MOTIONS,
    SHAPES,
    Habits,
    Scene,
    draw_script,
    is_held_out,
    shown,
)

LOOK = (0.5, 0.5, 0.5, 0.1, 0.5, 0.5, 0.5, 0.5)  # in the middle, on a plain grey ground


def drawn(habits: Habits, count: int = 40) -> list[Scene]:
    rng = random.Random(1)
    return [scene for _ in range(count) for scene in draw_script(rng, 32, habits=habits).scenes]


def test_a_script_is_as_long_as_its_scenes() -> None:
    script = draw_script(random.Random(1), 5, 8)
    assert (len(script.scenes), script.duration_s, script.span_s(2)) == (5, 40, (16, 24))


def test_the_same_seed_gives_the_same_script() -> None:
    assert draw_script(random.Random(7), 20) == draw_script(random.Random(7), 20)


def test_everything_that_can_be_shown_is_shown() -> None:
    scenes = drawn(Habits(with_held_out=True))
    assert {scene.thing for scene in scenes} == {*SHAPES, CARD, None}
    assert {scene.colour for scene in scenes} == {*COLOURS, None}
    assert {scene.motion for scene in scenes} == {*MOTIONS, None}
    assert {scene.count for scene in scenes} == set(range(MOST_SHOWN + 1))
    assert {scene.digit for scene in scenes} == {*range(10), None}


def test_only_what_stands_still_comes_in_numbers() -> None:
    assert all(scene.motion == "still" for scene in drawn(Habits()) if scene.count > 1)


def test_training_never_shows_a_held_out_pair() -> None:
    assert not any(is_held_out(scene.thing, scene.colour) for scene in drawn(Habits(common=0.6)))


def test_every_shape_lacks_a_colour_of_its_own() -> None:
    shapes, colours = zip(*HELD_OUT_PAIRS, strict=True)
    assert sorted(shapes) == sorted(SHAPES)
    assert len(set(colours)) == len(SHAPES)


def test_a_held_out_video_shows_held_out_pairs() -> None:
    assert any(is_held_out(scene.thing, scene.colour) for scene in drawn(Habits(with_held_out=True)))


def test_quiet_is_the_share_of_scenes_that_show_nothing() -> None:
    scenes = drawn(Habits(quiet=0.85))
    assert len(shown(scenes)) / len(scenes) == pytest.approx(0.15, abs=0.03)


# --- frames ----------------------------------------------------------------------------------------------------------


def painted(scene: Scene) -> torch.Tensor:
    """[8, E, E]: where a scene differs from the same scene with nothing in it."""
    both = render(batch_scenes([scene, Scene(scene.look)]), sampled_moments())
    return (both[0] - both[1]).abs().sum(-1) > 0.2


def centre(mask: torch.Tensor) -> tuple[float, float]:
    rows, columns = mask.nonzero(as_tuple=True)
    return float(columns.float().mean()), float(rows.float().mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_covers_a_part_of_the_frame_of_its_own(shape: str) -> None:
    areas = {name: int(painted(Scene(LOOK, name, "red", "still", 1))[0].sum()) for name in SHAPES}
    assert 0.01 * FRAME_EDGE**2 < areas[shape] < 0.15 * FRAME_EDGE**2
    masks = {name: painted(Scene(LOOK, name, "red", "still", 1))[0] for name in SHAPES}
    assert all(not torch.equal(masks[shape], masks[other]) for other in SHAPES if other != shape)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_thing_has_its_colour(colour: str) -> None:
    scene = Scene(LOOK, "circle", colour, "still", 1)
    frames = render(batch_scenes([scene]), sampled_moments())
    inside = frames[0][painted(scene)].mean(0)
    paints = render(batch_scenes([Scene(LOOK, "square", name, "still", 1) for name in COLOURS]), sampled_moments())
    middles = paints[:, 0, FRAME_EDGE // 2, FRAME_EDGE // 2]
    assert COLOURS[int((middles - inside).square().sum(-1).argmin())] == colour


@pytest.mark.parametrize(
    ("motion", "across", "down"), [("left", -1, 0), ("right", 1, 0), ("up", 0, -1), ("down", 0, 1)]
)
def test_a_moving_thing_goes_its_way_and_stays_in_the_frame(motion: str, across: int, down: int) -> None:
    mask = painted(Scene(LOOK, "square", "white", motion, 1))
    (x0, y0), (x1, y1) = centre(mask[0]), centre(mask[-1])
    assert (round((x1 - x0) / 36), round((y1 - y0) / 36)) == (across, down)
    assert len({int(frame.sum()) // 40 for frame in mask}) <= 2


def test_what_stands_still_does_not_move() -> None:
    mask = painted(Scene(LOOK, "ring", "black", "still", 1))
    assert torch.equal(mask[0], mask[-1])


@pytest.mark.parametrize("count", range(1, MOST_SHOWN + 1))
def test_so_many_things_are_shown_apart(count: int) -> None:
    scene = Scene(LOOK, "circle", "red", "still", count)
    one = int(painted(replace(scene, count=1))[0].sum())
    assert int(painted(scene)[0].sum()) == pytest.approx(count * one, rel=0.03)


def test_every_digit_looks_different() -> None:
    cards = [Scene(LOOK, CARD, "blue", "still", 1, True, digit) for digit in range(10)]
    frames = render(batch_scenes(cards), sampled_moments())[:, 0]
    differences = (frames[:, None] - frames[None]).abs().amax(dim=(2, 3, 4))
    assert bool((differences + torch.eye(10) > 0.5).all())


def test_a_larger_edge_shows_the_same_picture() -> None:
    scenes = batch_scenes(draw_script(random.Random(3), 12, habits=Habits(quiet=0)).scenes)
    small, large = (render(scenes, sampled_moments()[:, :1], edge) for edge in (FRAME_EDGE, 3 * FRAME_EDGE))
    shrunk = large[:, 0].unflatten(1, (FRAME_EDGE, 3)).unflatten(3, (FRAME_EDGE, 3)).mean((2, 4))
    assert float((shrunk - small[:, 0]).abs().mean()) < 0.005


def test_a_sparing_video_has_only_some_shapes_and_colours_and_no_held_out_pair() -> None:
    rng, kinds = random.Random(1), set()
    for _ in range(60):
        scenes = draw_script(rng, 40, habits=Habits(quiet=0.1, is_sparing=True)).scenes
        pairs = {(scene.thing, scene.colour) for scene in scenes if scene.thing in SHAPES}
        assert not pairs & HELD_OUT_PAIRS
        kinds.add((len({thing for thing, _ in pairs}), len({colour for _, colour in pairs})))
    assert {shapes for shapes, _ in kinds} == {1, 2, 3, 4, 5, 6}
    assert {colours for _, colours in kinds} >= {2, 3, 4, 5, 6, 7, 8}
