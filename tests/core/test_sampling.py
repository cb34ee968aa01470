"""When frames are sampled, and which times a segment's prompts carry."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempo_core.errors import UsageError
from tempo_core.sampling import Sampling, sample_frames, segment_spans
from tempo_core.spec import NAMED_SPECS, PAPER, IndexSpec, named_spec
from tests.support.golden_cases import golden_case

durations = st.fractions(min_value=Fraction(1, 1000), max_value=100_000, max_denominator=90_000)
specs = st.builds(
    IndexSpec,
    frames_per_second=st.sampled_from([0.25, 0.5, 1.0, 2.0, 5.0]),
    min_frames=st.integers(1, 8),
    max_frames=st.sampled_from([None, 8, 100, 1024]),
    segment_frames=st.sampled_from([2, 4, 8]),
)


@pytest.mark.parametrize(
    ("duration", "count"),
    [(Fraction(1, 25), 4), (Fraction(2), 4), (Fraction(21, 10), 4), (Fraction(23, 10), 5), (Fraction(20), 40),
     (Fraction(512), 1024), (Fraction(3600), 1024)],
)  # fmt: skip
def test_the_paper_takes_two_frames_a_second_at_least_4_and_at_most_1024(duration: Fraction, count: int) -> None:
    assert sample_frames(duration, PAPER).count == count


def test_the_uniform_specs_differ_in_their_cap() -> None:
    hour = Fraction(3600)
    named = {
        name: spec
        for name, spec in NAMED_SPECS.items()
        if (spec.sampling, spec.decoder, spec.state_dtype) == ("uniform", "software", "bfloat16")
    }
    counts = {name: sample_frames(hour, spec).count for name, spec in named.items()}
    assert counts == {"paper": 1024, "paper-2048": 2048, "dense": 7200}


def test_the_other_specs_differ_from_the_paper_in_what_their_names_say() -> None:
    keyframes = replace(PAPER, name="keyframes", sampling="keyframes")
    assert NAMED_SPECS["keyframes"] == keyframes
    assert NAMED_SPECS["paper-int8"] == replace(PAPER, name="paper-int8", state_dtype="int8")
    assert NAMED_SPECS["paper-nvdec"] == replace(PAPER, name="paper-nvdec", decoder="nvdec")
    assert NAMED_SPECS["keyframes-nvdec"] == replace(keyframes, name="keyframes-nvdec", decoder="nvdec")


def test_a_video_of_one_frame_has_one_sample() -> None:
    assert sample_frames(Fraction(1, 25), PAPER, single_frame=True).count == 1


def test_a_duration_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="duration must be positive"):
        sample_frames(Fraction(0), PAPER)


@given(durations, specs)
def test_samples_are_evenly_spread_from_the_first_frame_to_before_the_end(duration: Fraction, spec: IndexSpec) -> None:
    sampling = sample_frames(duration, spec)
    assert spec.min_frames <= sampling.count <= (spec.max_frames or sampling.count)
    assert sampling.time_s(0) == 0 and sampling.time_s(sampling.count) == duration
    assert sampling.time_s(1) == duration / sampling.count == 1 / sampling.real_fps


@given(durations, specs)
def test_the_count_is_the_wish_unless_a_bound_says_otherwise(duration: Fraction, spec: IndexSpec) -> None:
    count = sample_frames(duration, spec).count
    if spec.min_frames < count < (spec.max_frames or float("inf")):
        assert abs(count - duration * Fraction(spec.frames_per_second)) <= Fraction(1, 2)


@given(durations, specs)
def test_segments_cover_all_samples_once_and_in_order(duration: Fraction, spec: IndexSpec) -> None:
    sampling = sample_frames(duration, spec)
    spans = segment_spans(sampling, spec)
    assert [span.first for span in spans] == list(range(0, sampling.count, spec.segment_frames))
    assert sum(span.count for span in spans) == sampling.count
    assert all(span.count == spec.segment_frames for span in spans[:-1])
    assert [span.index for span in spans] == list(range(len(spans)))


@given(durations, specs)
def test_segments_follow_one_another_and_end_with_the_video(duration: Fraction, spec: IndexSpec) -> None:
    spans = segment_spans(sample_frames(duration, spec), spec)
    assert spans[0].start_s == 0 and spans[-1].end_s == pytest.approx(float(duration))
    assert all(before.end_s == after.start_s for before, after in pairwise(spans))


@given(durations, specs)
def test_each_pair_of_frames_has_a_time_between_its_two(duration: Fraction, spec: IndexSpec) -> None:
    sampling = sample_frames(duration, spec)
    for span in segment_spans(sampling, spec):
        assert len(span.pair_times_s) == (span.count + 1) // 2
        expected = [(span.first + 2 * k + 0.5) / float(sampling.real_fps) for k in range(len(span.pair_times_s))]
        assert span.pair_times_s == pytest.approx(expected)


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_segments_and_their_tags_are_those_of_the_published_method(name: str) -> None:
    case = golden_case(name)
    spec = replace(case.spec, min_frames=1)
    sampling = sample_frames(len(case.frames) / Fraction(case.fps), spec)
    spans = segment_spans(sampling, spec)
    assert [(span.count + 1) // 2 for span in spans] == [pairs for pairs, _, _ in case.grids]
    assert tuple(f"<{span.tag_time_s:.1f} seconds>" for span in spans) == case.tags


def test_an_unknown_spec_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match="no index spec 'papre'; choose one of: paper, paper-2048, paper-int8, dense"):
        named_spec("papre")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"frames_per_second": 0.0}, "must be positive"),
        ({"segment_frames": 3}, "must be even"),
        ({"segment_frames": 0}, "must be even"),
        ({"max_frames": 3}, "below min_frames"),
        ({"frames_per_second": float("nan")}, "must be positive"),
        ({"frames_per_second": float("inf")}, "must be positive"),
        ({"min_frames": 0}, "min_frames must be at least 1"),
        ({"max_gap_s": 0.4}, "max_gap_s is shorter"),
        ({"max_gap_s": float("nan")}, "max_gap_s is shorter"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(wrong: dict[str, float], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        IndexSpec(**wrong)  # type: ignore[arg-type]


@given(durations, specs)
def test_times_that_happen_to_be_even_give_the_spans_of_even_sampling(duration: Fraction, spec: IndexSpec) -> None:
    even = sample_frames(min(duration, Fraction(1000)), spec)
    told = replace(even, times_s=tuple(even.time_s(index) for index in range(even.count)))
    assert segment_spans(told, spec) == segment_spans(even, spec)
    assert told.longest_gap_s == even.longest_gap_s


def test_uneven_times_are_what_prompts_and_citations_carry() -> None:
    times = tuple(map(Fraction, (0, 1, 3, 7, 8, 12, 20, 21, 30, 32, 40)))
    sampling = Sampling(11, Fraction(44), times)
    whole, short = segment_spans(sampling, PAPER)
    assert list(whole.pair_times_s) == [0.5, 5, 10, 20.5]  # the mean of the two frames' times
    assert [whole.start_s, whole.tag_time_s, whole.end_s] == [0, 15, 30]
    assert list(short.pair_times_s) == [31, 42]  # the last frame stands until the end
    assert [short.start_s, short.tag_time_s, short.end_s] == [30, (30 + 44 + 5 * 4) / 2, 44]  # 4 s a sample on average
    assert sampling.longest_gap_s == 9
