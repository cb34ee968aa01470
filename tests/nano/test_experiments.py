"""What the experiments make of their results: thresholds, differences, runs put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.allocation_report import Results, points
from benchmarks.relevance import Best, calibration
from benchmarks.relevance_stats import honest_threshold
from benchmarks.result_files import joined


def run_of(videos: list[int], ata: str, even: str, sha256: str = "a") -> dict[str, Any]:
    """Results of one setting each, a question a letter."""
    return {
        "about": {"vision_sha256": sha256, "text_sha256": sha256, "seed": 1},
        "spent": {"ata/1": float(videos[0])},
        "right": {"ata/1": ata, "even/1": even},
        "questions": {"kind": ["when"] * len(ata), "video": videos, "segments": [128] * len(ata)},
    }


def test_the_honest_threshold_lies_between_what_is_shown_and_what_is_not() -> None:
    assert 0.2 < honest_threshold(np.array([0.8, 0.9]), np.array([0.1, 0.2])) < 0.8


def test_the_honest_threshold_weighs_both_mistakes_alike() -> None:
    shown, absent = np.array([0.3, *[0.9] * 9]), np.array([0.1, 0.4, 0.4, 0.4])
    assert 0.4 < honest_threshold(shown, absent) < 0.9


def test_a_threshold_is_judged_on_the_videos_it_was_not_chosen_on() -> None:
    even = [Best(0, True, 0.9), Best(2, False, 0.1)]
    odd = [Best(1, True, 0.2), Best(1, True, 0.9), Best(3, False, 0.3), Best(3, False, 0.8)]
    found = calibration([*even, *odd])
    assert found["threshold"] == pytest.approx(0.5)
    assert (found["shown"], found["absent"]) == (2, 2)
    assert [found[name][0] for name in ("shown_found", "absent_refused")] == [0.5, 0.5]  # type: ignore[index]


def test_too_few_questions_calibrate_nothing() -> None:
    assert calibration([Best(0, True, 0.9), Best(1, False, 0.1)]) == {}


def test_a_difference_varies_with_the_videos_not_with_their_questions() -> None:
    alike = run_of([0, 0, 0, 1, 1, 1], "111111", "000111")
    assert points(Results(alike), "ata/1", "even/1", np.ones(6, np.bool_)) == "+50.0 (+0.0 to +100.0)"


def test_runs_over_different_videos_are_put_together() -> None:
    both = joined([run_of([1, 1, 1], "111", "000"), run_of([5], "0", "1")])
    assert both["right"] == {"ata/1": "1110", "even/1": "0001"}
    assert both["questions"]["video"] == [1, 1, 1, 5]
    assert both["spent"] == {"ata/1": 2.0}


@pytest.mark.parametrize("other", [run_of([2, 1], "11", "11"), run_of([2], "1", "1", sha256="b")])
def test_runs_that_share_a_video_or_differ_in_the_model_are_not(other: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="different models or seeds, or of the same videos"):
        joined([run_of([1], "1", "1"), other])
