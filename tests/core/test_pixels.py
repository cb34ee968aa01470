"""Patches in the order that the vision tower was trained with, and the frames that are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tempo_core.errors import VideoError
from tempo_core.pixels import decode_jpeg, encode_jpeg, patchify
from tempo_core.values import ByteArray
from tests.support.golden_cases import GoldenCase, golden_case


def golden_levels(case: GoldenCase) -> ByteArray:
    """The 8-bit levels that the golden pixels were before they were normalized."""
    levels = np.round((case.pixels.astype(np.float64) + 1) * 127.5)
    assert np.abs(levels / 127.5 - 1 - case.pixels).max() < 1e-7
    return levels.astype(np.uint8)


def golden_frames(case: GoldenCase) -> list[ByteArray]:
    """The resized frames of each golden segment, put together from its patches one by one."""
    levels, segments, row = golden_levels(case), [], 0
    for pairs, rows, columns in case.grids:
        frames = np.zeros((2 * pairs, rows * 16, columns * 16, 3), np.uint8)
        for pair in range(pairs):
            for top in range(0, rows, 2):
                for left in range(0, columns, 2):
                    for y, x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                        patch = levels[row].reshape(3, 2, 16, 16)  # channel, time, height, width
                        area = np.s_[2 * pair : 2 * pair + 2, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
                        frames[area] = patch.transpose(1, 2, 3, 0)
                        row += 1
        segments.append(frames)
    return segments


@pytest.mark.parametrize("name", ["c", "d"])
def test_patches_are_those_of_the_published_method_exactly(name: str) -> None:
    case = golden_case(name)
    found = [patchify(frames) for frames in golden_frames(case)]
    assert tuple(grid for _, grid in found) == case.grids
    patches = np.concatenate([patches for patches, _ in found])
    assert np.array_equal(patches, golden_levels(case))


@pytest.mark.parametrize("name", ["c", "d"])
def test_put_together_the_golden_patches_are_the_golden_frames(name: str) -> None:
    case = golden_case(name)
    frames = np.concatenate(golden_frames(case))
    height, width = frames.shape[1:3]
    first = np.asarray(Image.fromarray(case.frames[0]).resize((width, height), Image.Resampling.BICUBIC))
    assert np.abs(first.astype(int) - frames[0]).mean() < 0.5


def test_an_odd_count_repeats_its_last_frame() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), np.uint8)
    patches, grid = patchify(frames)
    repeated, same_grid = patchify(np.concatenate([frames, frames[-1:]]))
    assert grid == same_grid == (2, 2, 4)
    assert np.array_equal(patches, repeated)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))
def test_every_pixel_is_in_one_patch(count: int, blocks_down: int, blocks_across: int) -> None:
    frames = np.random.default_rng(count).integers(0, 256, (count, 32 * blocks_down, 32 * blocks_across, 3), np.uint8)
    patches, (pairs, rows, columns) = patchify(frames)
    assert patches.shape == (pairs * rows * columns, 1536) and patches.dtype == np.uint8
    shown = frames if count % 2 == 0 else np.concatenate([frames, frames[-1:]])
    assert np.array_equal(np.bincount(patches.ravel(), minlength=256), np.bincount(shown.ravel(), minlength=256))


@pytest.mark.parametrize("shape", [(2, 48, 64, 3), (2, 64, 40, 3), (2, 64, 64, 4), (0, 64, 64, 3)])
def test_frames_without_a_whole_number_of_patches_are_a_programming_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no whole number of patches"):
        patchify(np.zeros(shape, np.uint8))


def test_kept_frames_are_the_same_bytes_each_time_and_close_to_the_original() -> None:
    frames = golden_frames(golden_case("c"))[0]
    files = encode_jpeg(frames, quality=92)
    assert files == encode_jpeg(frames, quality=92)
    kept = decode_jpeg(files)
    assert kept.shape == frames.shape and kept.dtype == np.uint8
    error = (kept.astype(float) - frames) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 45  # decibels; 4:2:0 reaches 45 at any quality
    assert sum(map(len, files)) < frames.nbytes / 20


def test_decoding_kept_frames_twice_gives_the_same_pixels() -> None:
    files = encode_jpeg(golden_frames(golden_case("d"))[0], quality=92)
    assert np.array_equal(decode_jpeg(files), decode_jpeg(files))


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "png"])
def test_damaged_kept_frames_are_named(damage: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    good, bad = encode_jpeg(np.full((2, 64, 64, 3), 90, np.uint8), quality=92)
    png = tmp_path_factory.mktemp("png") / "frame.png"
    Image.new("RGB", (64, 64)).save(png)
    content = {"cut": bad[: len(bad) // 2], "text": b"no picture", "empty": b"", "png": png.read_bytes()}[damage]
    with pytest.raises(VideoError, match="kept frame 1 cannot be decoded, index the video again"):
        decode_jpeg([good, content])


def test_kept_frames_of_different_sizes_are_damage() -> None:
    small, large = (encode_jpeg(np.zeros((1, edge, edge, 3), np.uint8), 92)[0] for edge in (32, 64))
    with pytest.raises(VideoError, match="differ in size"):
        decode_jpeg([small, large])
