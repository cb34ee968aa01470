"""A change redoes what stands behind it in the chain, and nothing before."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempo_core.fingerprints import Fingerprints, digest, fingerprints
from tempo_core.spec import PAPER, FrameGeometry, IndexSpec

LINKS = ("frames", "states", "features")


def chain(
    spec: IndexSpec = PAPER,
    geometry: FrameGeometry | None = None,
    vision: str = "vision",
    text: str = "text",
    suffix: str = "suffix",
) -> Fingerprints:
    return fingerprints(spec, geometry or FrameGeometry(), vision, text, suffix)


def changed(other: Fingerprints) -> set[str]:
    return {link for link in LINKS if getattr(other, link) != getattr(chain(), link)}


@pytest.mark.parametrize(
    ("name", "value"),
    [("frames_per_second", 1.0), ("min_frames", 6), ("max_frames", None), ("segment_frames", 4), ("jpeg_quality", 80)],
)
def test_how_frames_are_sampled_or_kept_changes_every_link(name: str, value: object) -> None:
    spec = replace(PAPER, **{name: value})  # type: ignore[arg-type]  # one field of each type
    assert changed(chain(spec)) == set(LINKS)


def test_key_frames_their_gap_and_the_decoder_change_every_link() -> None:
    keyframes = replace(PAPER, sampling="keyframes")
    chains = {
        chain(spec) for spec in (PAPER, keyframes, replace(keyframes, max_gap_s=5), replace(PAPER, decoder="nvdec"))
    }
    assert all(len({getattr(found, link) for found in chains}) == 4 for link in LINKS)


def test_a_gap_between_key_frames_means_nothing_to_even_samples() -> None:
    assert not changed(chain(replace(PAPER, max_gap_s=5)))


@pytest.mark.parametrize("name", [field.name for field in fields(FrameGeometry)])
def test_every_number_of_the_frame_geometry_changes_every_link(name: str) -> None:
    geometry = FrameGeometry()
    assert changed(chain(geometry=replace(geometry, **{name: getattr(geometry, name) + 32}))) == set(LINKS)


def test_vision_weights_and_state_dtype_leave_the_frames() -> None:
    assert changed(chain(vision="other")) == {"states", "features"}
    assert changed(chain(replace(PAPER, state_dtype="int8"))) == {"states", "features"}


def test_text_weights_and_suffix_leave_frames_and_states() -> None:
    assert changed(chain(text="other")) == {"features"}
    assert changed(chain(suffix="other")) == {"features"}


def test_the_name_of_an_index_spec_is_no_identity() -> None:
    assert not changed(chain(replace(PAPER, name="mine")))


def test_whole_numbers_mean_the_same_however_they_are_written() -> None:
    assert not changed(chain(replace(PAPER, frames_per_second=2)))
    assert not changed(chain(geometry=FrameGeometry(max_edge_ratio=200)))


def test_every_field_of_a_spec_is_in_some_link() -> None:
    """A new field that no link knows would let two different indexes share their parts."""
    assert {field.name for field in fields(IndexSpec)} == {
        "name", "frames_per_second", "min_frames", "max_frames", "segment_frames", "jpeg_quality", "state_dtype",
        "sampling", "max_gap_s", "decoder"
    }  # fmt: skip


def test_the_chain_of_the_paper_stays_what_libraries_hold() -> None:
    """If this fails, every library there is would be indexed again: was that meant?"""
    assert chain() == Fingerprints("e46a5aa267d8d2f3", "ef3847328bdfb677", "0176d5fa5b0a9d5e")


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=5))
def test_the_order_of_fields_does_not_matter(value: dict[str, int | str | None]) -> None:
    assert digest(dict(value)) == digest(dict(reversed(value.items())))
