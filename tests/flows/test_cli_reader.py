"""``tempo ask --reader``: a server answers. What is said of it, and that its key is in nothing that is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import open_library
from tests.support.chat_servers import GOOD, Answering, chat_server, event, status, stream
from tests.support.golden_cases import BASE, stock_checkpoint
from tests.support.libraries import add_video
from tests.support.tempo_cli import Said, tempo

SECRET = "sk-4711-do-not-tell"
QUESTION = "What color is the square?"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader") / "library"
    add_video(open_library(str(folder), create=True), stock_checkpoint(), "lecture", seconds=12)
    return folder


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPO_READER_KEY", SECRET)


def asked(library: Path, *options: str, code: int = 0) -> Said:
    said = tempo("ask", QUESTION, "--library", library, "--model", BASE, *options, code=code)
    assert SECRET not in said.out + said.err
    return said


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_said_how_much_goes_where_and_who_answered(library: Path) -> None:
    with chat_server(GOOD) as server:
        said = asked(library, "--reader", f"{server.url}#seer")
    assert said.out.startswith("It opens.\n")
    assert f"read by seer at {server.url}\n" in said.out
    assert "sending 12 frames (0.1 MB) and the question to seer at" in said.err
    assert "with the key of TEMPO_READER_KEY" in said.err
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


def test_as_json_the_answer_names_router_and_reader(library: Path) -> None:
    with chat_server(GOOD) as server:
        (answer,) = asked(library, "--reader", f"{server.url}#seer", "--json").json
    assert (answer["answer"], answer["model"], answer["reader"]) == ("It opens.", str(BASE), f"seer at {server.url}")


def test_the_reader_may_be_named_by_the_environment(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(GOOD) as server:
        monkeypatch.setenv("TEMPO_READER", f"{server.url}#seer")
        assert asked(library).out.startswith("It opens.\n")


def test_the_library_does_not_remember_a_reader(library: Path) -> None:
    before = files(library)
    with chat_server(GOOD) as server:
        asked(library, "--reader", f"{server.url}#seer")
    assert files(library) == before


@pytest.mark.parametrize(
    ("answer", "out", "reason"),
    [
        (status(401, f"no user has {SECRET}"), "", "answered 401 Unauthorized. Give its key in TEMPO_READER_KEY."),
        (stream(event("It ")), "It \n", "ended its answer in the middle"),
    ],
    ids=["refused", "cut"],
)
def test_a_failure_is_one_line_that_names_the_server(library: Path, answer: Answering, out: str, reason: str) -> None:
    with chat_server(answer) as server:
        said = asked(library, "--reader", f"{server.url}#seer", code=1)
    assert said.out == out
    (line,) = [line for line in said.err.splitlines() if line.startswith("tempo: ")]
    assert line.startswith(f"tempo: seer at {server.url} {reason}")


@pytest.mark.parametrize("address", ["http://host:8000/v1", "gpu7#seer", f"https://user:{SECRET}@host/v1#seer"])
def test_an_address_that_cannot_be_used_is_wrong_usage_before_anything_is_opened(address: str, tmp_path: Path) -> None:
    said = asked(tmp_path / "nowhere", "--reader", address, code=2)
    assert said.err.startswith("tempo: the reader's address")
