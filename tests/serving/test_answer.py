from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from serving.answer import Answer, AskedSegment, Citation, Timings, Usage, absence, cite, most_relevant


def _segments(*relevances: float, video_id: str = "v", first: int = 0) -> list[AskedSegment]:
    return [
        AskedSegment(video_id, f"/{video_id}.mp4", first + i, 4.0 * (first + i), 4.0 * (first + i + 1), relevance, 4)
        for i, relevance in enumerate(relevances)
    ]


def _cited(segments: Sequence[AskedSegment], *left_out: float) -> tuple[Citation, ...]:
    """``left_out``: scores of segments that were given nothing."""
    return cite(segments, np.array([*(segment.relevance for segment in segments), *left_out], np.float32))


def test_adjacent_relevant_segments_are_one_citation_with_the_best_relevance() -> None:
    (citation,) = _cited(_segments(0.1, 0.8, 0.9, 0.1))
    assert (citation.start_s, citation.end_s, citation.relevance) == (4.0, 12.0, 0.9)


def test_citations_come_best_first_and_at_most_five() -> None:
    citations = _cited(_segments(*[0.9, 0.0, 0.8, 0.0, 0.95, 0.0, 0.7, 0.0, 0.6, 0.0, 0.99, 0.0]))
    assert [citation.relevance for citation in citations] == [0.99, 0.95, 0.9, 0.8, 0.7]


def test_segments_of_two_videos_are_never_one_moment() -> None:
    citations = _cited([*_segments(0.1, 0.9), *_segments(0.9, 0.1, video_id="w", first=2)])
    assert {citation.video_id for citation in citations} == {"v", "w"}


def test_segments_that_were_left_out_part_a_moment() -> None:
    assert len(_cited([*_segments(0.9), *_segments(0.9, 0.1, first=2)])) == 2


def test_what_was_left_out_counts_for_what_is_relevant() -> None:
    """Where only relevant segments are given anything, the least of them is still relevant."""
    (citation,) = _cited(_segments(0.7, 0.9), 0.1, 0.0)
    assert (citation.start_s, citation.end_s) == (0.0, 8.0)
    (citation,) = _cited(_segments(0.7, 0.9))
    assert (citation.start_s, citation.end_s) == (4.0, 8.0)


def test_the_most_relevant_keep_their_order_and_ties_take_the_earlier() -> None:
    assert most_relevant(np.array([0.5, 0.9, 0.5, 0.1, 0.5], np.float32), 3) == [0, 1, 2]


def test_an_answer_is_json_with_the_documented_fields() -> None:
    segments = tuple(_segments(0.2, 0.9))
    usage, timings = Usage(8, 64, 5, 90, 3), Timings(0, 0, 0, 0, 0, 0, 0)
    answer = Answer("yes", "is it?", "m", "m", "f", (), segments, _cited(segments), "relevance", usage, timings)
    told = json.loads(json.dumps(answer.to_json()))
    assert list(told) == [
        *("answer", "question", "model", "reader", "fingerprint", "warnings"),
        *("segments", "citations", "allocation", "usage", "timings_s"),
    ]
    assert list(told["segments"][0]) == ["video_id", "uri", "index", "start_s", "end_s", "relevance", "tokens", "pairs"]
    assert list(told["citations"][0]) == ["video_id", "uri", "start_s", "end_s", "relevance"]


def test_a_best_score_below_the_calibrated_one_says_that_it_is_not_there() -> None:
    (said,) = absence(np.array([0.02, 0.11, 0.05], np.float32), absent_below=0.3)
    assert said == "this was probably not shown: none of 3 segments read is relevant (at best 0.11 of 0.3)"


def test_nothing_is_said_absent_from_the_calibrated_score_on() -> None:
    assert absence(np.array([0.02, 0.3]), absent_below=0.3) == ()


def test_a_model_that_was_not_calibrated_says_nothing_absent() -> None:
    assert absence(np.zeros(2, np.float32), absent_below=None) == ()
