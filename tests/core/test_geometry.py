"""The size of a frame: three roundings in a row, within the limits that the published weights know."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tempo_core.errors import VideoError
from tempo_core.geometry import frame_size, visual_tokens
from tempo_core.spec import FrameGeometry
from tests.support.golden_cases import golden_case

PUBLISHED = FrameGeometry()
edges = st.integers(1, 10_000)


def final(width: int, height: int) -> tuple[int, int]:
    assume(max(width, height) <= PUBLISHED.max_edge_ratio * min(width, height))
    return frame_size(width, height, PUBLISHED)


@pytest.mark.parametrize(
    ("shown", "size"),
    [
        ((1920, 1080), (512, 256)),
        ((1080, 1920), (256, 512)),
        ((3840, 2160), (512, 256)),
        ((640, 360), (512, 256)),
        ((320, 192), (480, 288)),
        ((96, 96), (384, 384)),
        ((1024, 768), (512, 384)),
        ((768, 576), (512, 384)),
        ((512, 512), (512, 512)),
        ((1, 1), (384, 384)),
    ],
)
def test_known_sizes(shown: tuple[int, int], size: tuple[int, int]) -> None:
    assert frame_size(*shown, PUBLISHED) == size


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_grids_are_those_of_the_published_method(name: str) -> None:
    case = golden_case(name)
    width, height = frame_size(case.frames.shape[2], case.frames.shape[1], PUBLISHED)
    assert {(rows, columns) for _, rows, columns in case.grids} == {(height // 16, width // 16)}


@given(edges, edges)
def test_both_edges_are_whole_numbers_of_merged_patches(width: int, height: int) -> None:
    new_width, new_height = final(width, height)
    assert new_width % 32 == 0 and new_height % 32 == 0 and min(new_width, new_height) >= 32


@given(edges, edges)
def test_the_area_lies_within_the_limits(width: int, height: int) -> None:
    new_width, new_height = final(width, height)
    assert PUBLISHED.min_area <= new_width * new_height <= PUBLISHED.max_area
    assert 128 <= visual_tokens(new_width, new_height) <= 768


@given(edges, edges)
def test_a_turned_picture_has_the_turned_size(width: int, height: int) -> None:
    assert final(height, width) == final(width, height)[::-1]


@given(st.integers(64, 10_000), st.floats(1, 2.5))
def test_the_shape_of_usual_pictures_is_kept_to_a_rounding(width: int, ratio: float) -> None:
    height = max(64, round(width / ratio))
    new_width, new_height = final(width, height)
    assert 0.7 <= (new_width / new_height) / (width / height) <= 1.45


@given(edges, edges)
def test_a_size_that_came_out_at_multiples_of_64_stays(width: int, height: int) -> None:
    size = final(width, height)
    assume(max(size) <= PUBLISHED.longest_edge and not size[0] % 64 and not size[1] % 64)
    assert frame_size(*size, PUBLISHED) == size


@given(st.integers(1, 100))
def test_too_elongated_pictures_are_an_error(short: int) -> None:
    with pytest.raises(VideoError, match="too elongated"):
        frame_size(200 * short + 1, short, PUBLISHED)
    assert frame_size(200 * short, short, PUBLISHED)


def test_a_checkpoint_may_carry_its_own_geometry() -> None:
    small = FrameGeometry(longest_edge=128, min_resized_area=64 * 64, min_area=4 * 32 * 32, max_area=16 * 32 * 32)
    assert frame_size(1920, 1080, small) == (128, 64)
