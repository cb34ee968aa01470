"""A server answers from the kept frames: what it is sent, and that the same frames read here give the same answer."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace

import pytest

from serving.answer import Answer
from serving.chat_server import ChatServer
from serving.engine import Engine
from serving.selection import Scope
from storage import Library, open_library
from tempo_core.checkpoint_parts import Checkpoint
from tempo_core.errors import CorruptPart, RemoteReaderError
from tempo_core.pixels import decode_jpeg, patchify
from tempo_core.spec import PAPER
from tempo_core.values import SegmentPixels
from tests.support.chat_servers import GOOD, Json, Running, chat_server, read_and_answer, status
from tests.support.golden_cases import golden_checkpoint, stock_checkpoint
from tests.support.libraries import add_video

QUESTION = "What color is the square?"
NEW_TOKENS = 6
FAMILIES = pytest.mark.parametrize("family", [stock_checkpoint, golden_checkpoint], ids=["stock", "tempo"])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Two videos under a stock model and under Tempo's."""
    library = open_library(str(tmp_path_factory.mktemp("remote") / "library"), create=True)
    spec = replace(PAPER, name="plain", state_dtype="float32")
    for checkpoint in (stock_checkpoint(), golden_checkpoint()):
        add_video(library, checkpoint, "lecture", seconds=36, spec=spec)
        add_video(library, checkpoint, "storm", seconds=22, spec=spec)
    return library


def scope_of(library: Library, checkpoint: Checkpoint, *titles: str) -> Scope:
    own = next(model for model in library.models() if checkpoint.fingerprints(model.spec) == model.fingerprints)
    return Scope(videos=tuple(library.videos(own.features, select=titles)))


def asked(
    library: Library,
    checkpoint: Checkpoint,
    server: Running | None,
    *titles: str,
    budget: int | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Answer:
    named = ChatServer(server.url, "tiny", None, told) if server else None
    engine = Engine(library, checkpoint, server=named)
    scope = scope_of(library, checkpoint, *(titles or ("lecture.mp4",)))
    return engine.ask(QUESTION, scope, token_budget=budget, max_new_tokens=NEW_TOKENS)


def content(server: Running) -> list[Json]:
    (message,) = server.requests[-1].body["messages"]
    assert message["role"] == "user"
    parts: list[Json] = message["content"]
    return parts


def jpeg(part: Json) -> bytes:
    return base64.b64decode(part["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))


@FAMILIES
@pytest.mark.slow
def test_the_answer_is_that_of_the_same_frames_read_in_this_process(
    library: Library, family: Callable[[], Checkpoint]
) -> None:
    """A frame twice is a frame pair: so the reader of this process sees what the server sees in one image."""
    with chat_server(read_and_answer) as server:
        answer = asked(library, family(), server, budget=300)
    (video,) = scope_of(library, family(), "lecture.mp4").videos or ()
    reader, segments = stock_checkpoint().reader, []
    for index, jpegs, times_s in library.read_frames(video, [one.index for one in answer.segments]):
        chosen = pairs_sent(content(server), jpegs)
        assert len(chosen) == next(one.pairs for one in answer.segments if one.index == index)
        for pair in chosen:
            patches, grid = patchify(decode_jpeg([jpegs[2 * pair]]))
            segments.append(SegmentPixels(patches, grid, (times_s[2 * pair],)))
    prompt = reader.prompt(QUESTION, stock_checkpoint().router.encode(segments))
    assert answer.answer == "".join(reader.text_pieces(reader.token_ids(prompt, NEW_TOKENS))) != ""
    assert answer.usage.prompt_tokens == len(prompt)


def pairs_sent(parts: list[Json], jpegs: list[bytes]) -> list[int]:
    sent = [jpeg(part) for part in parts if part["type"] == "image_url"]
    return [pair for pair in range(len(jpegs) // 2) if jpegs[2 * pair] in sent]


@FAMILIES
def test_each_frame_stands_behind_its_own_time_and_the_question_at_the_end(
    library: Library, family: Callable[[], Checkpoint]
) -> None:
    with chat_server(GOOD) as server:
        answer = asked(library, family(), server)
    *frames, question = content(server)
    assert question == {"type": "text", "text": QUESTION}
    assert [part["text"] for part in frames[::2]] == [f"<{second:.1f} seconds>" for second in range(36)]
    (video,) = scope_of(library, family(), "lecture.mp4").videos or ()
    kept = [one for _, jpegs, _ in library.read_frames(video) for one in jpegs]
    assert [jpeg(part) for part in frames[1::2]] == kept[::2]
    assert (answer.answer, answer.allocation) == ("It opens.", "everything")


def test_a_second_video_is_introduced_by_its_title(library: Library) -> None:
    with chat_server(GOOD) as server:
        asked(library, stock_checkpoint(), server, "lecture.mp4", "storm.mp4")
    texts = [part["text"] for part in content(server) if part["type"] == "text"]
    assert [text for text in texts if "Video" in text] == [
        "\nVideo: lecture.mp4\n<0.0 seconds>",
        "\nVideo: storm.mp4\n<0.0 seconds>",
    ]


def test_moments_and_shares_are_those_of_the_models_own_reader(library: Library) -> None:
    with chat_server(GOOD) as server:
        there = asked(library, stock_checkpoint(), server, budget=300)
    here = asked(library, stock_checkpoint(), None, budget=300)
    assert (there.segments, there.citations, there.allocation) == (here.segments, here.citations, here.allocation)
    assert (there.reader, here.reader) == (f"tiny at {server.url}", stock_checkpoint().id)


def test_images_stay_within_the_budget_by_the_routers_own_count(library: Library) -> None:
    with chat_server(GOOD) as server:
        answer = asked(library, golden_checkpoint(), server, budget=300)
    used = answer.usage.visual_tokens + answer.usage.tag_tokens
    assert 150 < used == answer.usage.prompt_tokens <= 300
    assert sum(part["type"] == "image_url" for part in content(server)) == sum(
        one.pairs or 0 for one in answer.segments
    )
    assert answer.usage.completion_tokens == 2  # of a server that does not count: its pieces


def test_where_it_goes_is_said_before_anything_is_sent(library: Library) -> None:
    said: list[str] = []
    with chat_server(status(400, "no")) as server:
        with pytest.raises(RemoteReaderError):
            asked(library, stock_checkpoint(), server, told=lambda text: said.append(f"{len(server.requests)}: {text}"))
    (line,) = said
    assert line.startswith("0: sending 36 frames (0.")
    assert line.endswith(f"MB) and the question to tiny at {server.url}, without a key")


def test_a_part_that_lacks_frames_is_named(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "read_frames", lambda *_: iter([(index, [], []) for index in range(9)]))
    with chat_server(GOOD) as server:
        with pytest.raises(CorruptPart, match=r"lecture\.mp4: segment 0 lacks frames"):
            asked(library, stock_checkpoint(), server)
    assert server.requests == []
