"""A real ``transformers serve`` answers: from the same messages as in this process, it says the same, as a stream."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.answer import Answer
from serving.chat_server import ChatServer, Patience
from serving.engine import Engine
from storage import open_library
from tempo_core.errors import RemoteReaderError
from tests.support.chat_servers import chat_server, read_and_answer
from tests.support.golden_cases import BASE, stock_checkpoint
from tests.support.libraries import add_video
from tests.support.tempo_cli import tempo
from tests.support.transformers_serve import transformers_serve

NEW_TOKENS = 24
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Its address, and its model: the golden base checkpoint, which does not enlarge such small frames."""
    model = shutil.copytree(BASE, tmp_path_factory.mktemp("served") / "tiny-qwen3-vl")
    settings = json.loads((model / "preprocessor_config.json").read_text())
    settings["size"] = {"shortest_edge": 1024, "longest_edge": 1 << 24}
    (model / "preprocessor_config.json").write_text(json.dumps(settings))
    with transformers_serve(model.parent) as url:
        yield url, str(model)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "library"
    add_video(open_library(str(folder), create=True), stock_checkpoint(), "lecture", seconds=36)
    return folder


def asked(library: Path, url: str, model: str, question: str, budget: int) -> tuple[list[str], Answer]:
    """The pieces in which it came, and the answer."""
    engine = Engine(open_library(str(library)), stock_checkpoint(), server=ChatServer(url, model, None, lambda _: None))
    *pieces, answer = engine.stream(question, token_budget=budget, max_new_tokens=NEW_TOKENS)
    assert isinstance(answer, Answer)
    return [str(piece) for piece in pieces], answer


@pytest.mark.parametrize(
    ("question", "budget"), [("What color is the square?", 150), ("Who opens the gate, and when?", 300)]
)
def test_it_streams_what_the_same_messages_give_in_this_process(
    library: Path, served: tuple[str, str], question: str, budget: int
) -> None:
    """Bytes at the end that are no character yet, the server keeps back."""
    there, answer = asked(library, *served, question, budget)
    with chat_server(read_and_answer) as server:
        here, answer_here = asked(library, server.url, "tiny", question, budget)
    assert there == [piece for piece in here if piece.strip("\ufffd")]
    assert len(there) > 1
    assert answer.answer == "".join(there)
    assert answer.usage == answer_here.usage


def test_it_answers_the_command_line(library: Path, served: tuple[str, str]) -> None:
    url, model = served
    ask = ("ask", "Who opens the gate?", "--library", library, "--model", BASE, "--json", "--token-budget", 150)
    (there,) = tempo(*ask, "--reader", f"{url}#{model}").json
    with chat_server(read_and_answer) as server:
        (here,) = tempo(*ask, "--reader", f"{server.url}#tiny").json
    assert there["answer"] == here["answer"].rstrip("\ufffd") != ""
    assert there["usage"] == here["usage"]


def test_a_model_that_it_does_not_have_is_one_error_that_says_where_to_look(served: tuple[str, str]) -> None:
    server = ChatServer(served[0], "no/such", None, lambda _: None, Patience(pauses_s=()))
    with pytest.raises(RemoteReaderError, match=r"^no/such at http.*/v1 answered 500 .*Does it have that model"):
        list(server.answer([{"type": "text", "text": "Does it open?"}], NEW_TOKENS))
