"""What a later question asks of S3, besides its states."""

from __future__ import annotations

import pytest

from storage import Library, TimeRange, open_library
from tests.support.s3_server import Proxy
from tests.support.storage_harness import PRINTS, index, tiny_video

pytestmark = pytest.mark.s3
BUCKET = "archive"


@pytest.fixture
def library(proxy: Proxy) -> Library:
    library = open_library(f"s3://{BUCKET}/questions", create=True)
    index(library, {f"/{seed}.mp4": seed for seed in range(6)})
    with library.writer() as writer:
        writer.optimize()
    return open_library(library.uri)


def test_a_later_question_takes_eight_requests(library: Library, proxy: Proxy) -> None:
    """The manifest; each table's newest version once, then its columns; and the size of the segments' table."""
    for vector in tiny_video(3).features[:2]:
        proxy.requests.clear()
        assert [model.features for model in library.models()] == [PRINTS.features]
        assert library.segment_count(PRINTS.features) > 3
        assert len(library.search(vector, PRINTS.features, 3, times=TimeRange(from_s=0.0))) == 3
    assert len(proxy.requests) <= 8, proxy.requests


def test_a_question_sees_what_another_process_committed_since_the_last(library: Library) -> None:
    video = tiny_video(7)
    assert library.search(video.features[0], limit=1)[0].video.uri != "/7.mp4"
    index(open_library(library.uri), {"/7.mp4": 7})
    assert library.search(video.features[0], limit=1)[0].video.uri == "/7.mp4"
