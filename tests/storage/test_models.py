"""Several models in one library, and the names by which users find videos in it."""

from __future__ import annotations

import pytest

from storage import ALL_MODELS, Library
from tempo_core.errors import UsageError
from tests.support.storage_harness import (
    PRINTS,
    commit,
    facts_of,
    index,
    part_files,
    prints_of,
    put,
    source_of,
    stage,
    tiny_video,
    uris,
    video_id,
)

OTHER_TEXT = prints_of(text="other")
OTHER_VISION = prints_of(vision="other")


def test_another_text_model_reuses_frames_and_states(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    video, before = tiny_video(1), part_files(library)
    with library.writer() as writer:
        content = writer.find_content(video.video_id, OTHER_TEXT)
        assert content is not None
        assert content.committed is None
        assert content.states is not None
        assert content.frames is not None
        with library.stage(video.video_id, OTHER_TEXT) as writing:
            writing.reuse_frames(content.frames)
            writing.reuse_states(content.states)
            writing.add_features(video.features * 2, video.spans)
            record = commit(writer, writing.finish(), source_of("/a.mp4", 1), facts_of(video))
    assert part_files(library) == before
    assert [state.rows.tobytes() for state in library.read_states(record, verify=True)] == [
        state.rows.tobytes() for state in video.states
    ]


def add_vision_model(library: Library) -> None:
    video = tiny_video(1)
    with library.writer() as writer:
        content = writer.find_content(video.video_id, OTHER_VISION)
        assert content is not None
        assert content.states is None
        assert content.frames is not None
        with library.stage(video.video_id, OTHER_VISION) as writing:
            writing.reuse_frames(content.frames)
            for state in video.states:
                writing.add_state(state)
            writing.add_features(video.features, video.spans)
            commit(writer, writing.finish(), source_of("/a.mp4", 1), facts_of(video))


def test_another_vision_model_reuses_the_frames_only(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    before = part_files(library)
    add_vision_model(library)
    (added,) = part_files(library) - before
    assert "/states-" in added


def test_a_part_that_another_model_uses_is_not_swept(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    add_vision_model(library)
    with library.writer() as writer:
        put(library, writer, "/a.mp4", 1)  # replaces the first model's generation, whose frames the other one uses
        writer.prune(grace_s=0)
    (record,) = library.videos(OTHER_VISION.features)
    assert len(list(library.read_frames(record))) == 3
    assert library.verify(grace_s=0) == []


def test_another_model_is_served_once_the_default_has_no_video_left(library: Library) -> None:
    index(library, {"/a.mp4": 1, "/b.mp4": 2})
    video = tiny_video(3)
    with library.writer() as writer:
        commit(writer, stage(library, video, OTHER_VISION), source_of("/c.mp4", 3), facts_of(video))
        writer.remove(["/a.mp4", "/b.mp4"])
        writer.prune(grace_s=0)
    assert library.default_fingerprint() == OTHER_VISION.features
    assert uris(library) == ["/c.mp4"]
    assert f"segments_{PRINTS.features}" not in library.tables.names()


def test_the_first_model_is_served_until_another_is_chosen(library: Library) -> None:
    index(library, {"/a.mp4": 1, "/b.mp4": 2})
    add_vision_model(library)
    assert uris(library) == ["/a.mp4", "/b.mp4"]
    assert uris(library, OTHER_VISION.features) == ["/a.mp4"]
    assert len(library.videos(ALL_MODELS)) == 3
    with library.writer() as writer:
        writer.set_default(OTHER_VISION.features)
        with pytest.raises(UsageError, match="holds no videos under 0123"):
            writer.set_default("0123")
    assert uris(library) == ["/a.mp4"]
    assert [model.fingerprints for model in library.models()] == [OTHER_VISION, PRINTS]


def test_names_that_users_give_find_videos(library: Library) -> None:
    index(library, {"/a/talk.mp4": 1, "/b/talk copy.mp4": 1, "/b/other.mp4": 2})
    both = ["/a/talk.mp4", "/b/talk copy.mp4"]

    def named(*names: str) -> list[str]:
        return [record.uri for record in library.videos(select=names)]

    assert named("/a/talk.mp4") == ["/a/talk.mp4"]
    assert named(video_id(1)[:6]) == both
    assert named("other.mp4", "talk") == ["/b/other.mp4", "/a/talk.mp4"]
    with pytest.raises(UsageError, match="no video 'nothing'"):
        named("nothing")
    with pytest.raises(UsageError, match="no video"):
        named(video_id(1)[:5])


def test_a_name_that_fits_different_videos_is_refused(library: Library) -> None:
    index(library, {"/a/talk.mp4": 1, "/b/talk.mp4": 2})
    with pytest.raises(UsageError, match=r"several videos.*/a/talk\.mp4.*/b/talk\.mp4"):
        library.videos(select=["talk.mp4"])


def test_sources_are_named_with_those_that_only_ever_failed(library: Library) -> None:
    index(library, {"/a/talk.mp4": 1, "/b/copy.mp4": 1, "/a/broken.mp4": -1, "/b/broken.mp4": -2, "/b/lost.mp4": -3})
    assert library.sources(["/a/broken.mp4", "lost", "/a/talk.mp4"]) == ["/a/broken.mp4", "/b/lost.mp4", "/a/talk.mp4"]
    assert library.sources([video_id(1)[:8]]) == ["/a/talk.mp4", "/b/copy.mp4"]
    with pytest.raises(UsageError, match=r"several sources.*/a/broken\.mp4, /b/broken\.mp4; name one by its URI"):
        library.sources(["broken.mp4"])
    with pytest.raises(UsageError, match="no video 'nothing'"):
        library.sources(["nothing"])


def test_a_failed_source_named_like_a_video_is_not_taken_for_it(library: Library) -> None:
    index(library, {"/a/talk.mp4": 1, "/b/talk.mp4": -1})
    with pytest.raises(UsageError, match=r"several sources.*/b/talk\.mp4, /a/talk\.mp4"):
        library.sources(["talk.mp4"])


def test_a_source_that_changed_between_two_models_is_still_named_by_its_uri(library: Library) -> None:
    index(library, {"/a.mp4": 1})
    video = tiny_video(2)
    with library.writer() as writer:
        commit(writer, stage(library, video, OTHER_VISION), source_of("/a.mp4", 2), facts_of(video))
    assert library.sources(["/a.mp4"]) == ["/a.mp4"]
    assert len(library.videos(ALL_MODELS, select=["/a.mp4"])) == 2
