"""A server that refuses, fails or talks nonsense: one error that names it and the way out, or a new try; never the key.

The servers are real and speak HTTP; only the patience is shorter than a user's.
"""

from __future__ import annotations

from email.utils import formatdate
from itertools import count, repeat

import pytest

from serving.chat_server import ChatServer, Key, Patience
from serving.chat_stream import MOST_LINE_BYTES
from tempo_core.errors import RemoteReaderError
from tests.support.chat_servers import (
    DONE,
    GOOD,
    Answering,
    Exchange,
    Running,
    chat_server,
    event,
    status,
    stream,
)

SECRET = "sk-4711-do-not-tell"
QUESTION = [{"type": "text", "text": "Does it open?"}]
QUICK = Patience(connect_s=5.0, piece_s=60.0, all_s=60.0, pauses_s=(0.0, 0.0))
SHORT = Patience(connect_s=5.0, piece_s=0.3, all_s=60.0, pauses_s=(0.0, 0.0))
BRIEF = Patience(connect_s=5.0, piece_s=60.0, all_s=0.5, pauses_s=(0.0, 0.0))


def ask(server: Running, patience: Patience = QUICK, key: str = SECRET) -> list[str]:
    announced: list[str] = []
    named = ChatServer(server.url, "seer", Key("TEMPO_READER_KEY", key), announced.append, patience)
    return list(named.answer(QUESTION, 8))


def failure(*answers: Answering, patience: Patience = QUICK) -> tuple[str, int]:
    """What the error says, and how often the server was asked."""
    with chat_server(*answers) as server:
        with pytest.raises(RemoteReaderError) as caught:
            ask(server, patience)
    message = str(caught.value)
    assert message.startswith(f"seer at {server.url} ")
    assert SECRET not in message
    return message, len(server.requests)


def reset(exchange: Exchange) -> None:
    exchange.reset()


def silent(exchange: Exchange) -> None:
    exchange.running.is_over.wait()


def silent_in_the_middle(exchange: Exchange) -> None:
    stream(event("It "))(exchange)
    exchange.running.is_over.wait()


def broken_in_the_middle(exchange: Exchange) -> None:
    stream(event("It "))(exchange)
    exchange.reset()


def endless(exchange: Exchange) -> None:
    exchange.head(200, "text/event-stream")
    while not exchange.running.is_over.wait(0.01):
        exchange.send(event("and "))


def endless_head(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    for number in count():
        if exchange.running.is_over.wait(0.05):
            return
        exchange.send(f"X-{number}: more\r\n".encode())


def flood(exchange: Exchange) -> None:
    exchange.head(200, "text/event-stream")
    for piece in repeat(event("and " * 1000)):
        exchange.send(piece)


def huge_line(exchange: Exchange) -> None:
    stream(b'data: {"choices": [{"delta": {"content": "' + b"x" * (2 * MOST_LINE_BYTES))(exchange)


def test_the_answer_comes_in_pieces_as_the_server_sends_them() -> None:
    with chat_server(GOOD) as server:
        assert ask(server) == ["It ", "opens."]
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert request.body["messages"] == [{"role": "user", "content": QUESTION}]
    assert (request.body["model"], request.body["max_tokens"], request.body["temperature"]) == ("seer", 8, 0)


@pytest.mark.parametrize(
    "answer",
    [
        stream(event("It "), event("opens."), event(None, finish="length")),
        stream(event("It "), event("opens."), DONE),
        stream(b": still here\n\n", b"event: chunk\r\n", event("It ").replace(b"\n", b"\r\n"), event("opens."), DONE),
        stream(event(""), event("It "), event("opens.", finish="stop", usage=None), event(choices=[]), DONE),
        stream(event("It "), event("opens."), event(choices=[{"delta": None}], usage={"prompt_tokens": 9}), DONE),
    ],
    ids=["no end mark", "no reason", "comments and carriage returns", "empty chunks", "half of the usage"],
)
def test_streams_of_other_servers_are_read_too(answer: Answering) -> None:
    with chat_server(answer) as server:
        assert ask(server) == ["It ", "opens."]


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([status(500), status(500), GOOD], 3),
        ([status(503, "overloaded"), GOOD], 2),
        ([status(429, "slowly", Retry_After="1"), GOOD], 2),
        ([status(429, "slowly", Retry_After=formatdate(0, usegmt=True)), GOOD], 2),
        ([reset, GOOD], 2),
        ([stream(event("")), GOOD], 2),
    ],
    ids=["500 twice", "503", "429 for a second", "429 until a date", "reset", "cut before the first piece"],
)
def test_what_may_pass_is_tried_again_before_the_first_piece(answers: list[Answering], asked: int) -> None:
    with chat_server(*answers) as server:
        assert ask(server) == ["It ", "opens."]
    assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            status(500, "no memory"),
            "Error. Does it have that model, and memory for so much? Its log may tell. It said: no memory",
        ),
        (status(429, "slowly"), "answered 429 Too Many Requests. Try again later. It said: slowly"),
        (reset, "broke the connection off"),
    ],
    ids=["500", "429", "reset"],
)
def test_what_does_not_pass_is_said_after_three_tries(answer: Answering, said: str) -> None:
    message, asked = failure(answer)
    assert said in message
    assert asked == 3


def test_a_server_that_asks_for_a_long_rest_is_left_alone() -> None:
    message, asked = failure(status(429, Retry_After="3600"))
    assert "asks to be left alone for 3600 s" in message
    assert asked == 1


ILLS: dict[str, tuple[Answering, str]] = {
    "401": (status(401, f"wrong key: {SECRET}"), "Give its key in TEMPO_READER_KEY. It said: wrong key: ***"),
    "404": (status(404, '{"detail": "no model seer"}'), '/models. It said: {"detail": "no model seer"}'),
    "400": (status(400, "too many images"), "lower --token-budget. It said: too many images"),
    "418": (status(418, "teapot"), "answered 418 I'm a Teapot. Its log may tell why. It said: teapot"),
    "a page": (status(200, "<html>Welcome", "text/html; charset=utf-8"), "answered with text/html, not with a stream"),
    "no stream": (status(200, "{}"), "answered with application/json, not with a stream of events"),
    "redirect": (
        status(307, Location="http://elsewhere.invalid/"),
        "leads to http://elsewhere.invalid/, where nothing",
    ),
    "no JSON": (stream(b"data: not json\n\n"), "sent what is no piece of a chat completion. It said: not json"),
    "deep JSON": (stream(b"data: " + b"[" * 100_000 + b"\n\n"), "sent what is no piece of a chat completion"),
    "other JSON": (stream(b'data: {"choices": "all"}\n\n'), "sent what is no piece of a chat completion"),
    "no words": (stream(event("", finish="stop"), DONE), "ended its answer without a word. If the model reasons"),
    "error": (stream(event("", error={"message": SECRET})), 'failed while it answered. It said: {"object"'),
    "late error": (stream(event("It "), event("", error="out of memory")), "failed while it answered"),
    "bare error": (stream(b'data: {"object": "error", "message": "full"}\n\n'), 'It said: {"object": "error"'),
    "cut": (stream(event("It ")), "ended its answer in the middle"),
    "broken": (broken_in_the_middle, "broke the connection off"),
    "huge line": (huge_line, "sent more than an answer can be"),
    "flood": (flood, "sent more than an answer can be"),
}


@pytest.mark.parametrize("name", ILLS)
def test_what_a_new_try_cannot_help_is_said_at_once(name: str) -> None:
    answer, said = ILLS[name]
    message, asked = failure(answer)
    assert said in message
    assert asked == 1
    assert len(message) < 700


@pytest.mark.parametrize(
    ("answer", "patience", "said"),
    [
        (silent, SHORT, "nothing"),
        (silent_in_the_middle, SHORT, "nothing"),
        (endless, BRIEF, "did not end its answer in time"),
        (endless_head, BRIEF, "did not end its answer in time"),
    ],
    ids=["silent", "silent in the middle", "endless", "endless head"],
)
def test_nothing_is_waited_for_without_end(answer: Answering, patience: Patience, said: str) -> None:
    message, _ = failure(answer, patience=patience)
    assert said in message


def test_where_nothing_listens_is_said_at_once() -> None:
    with chat_server(GOOD) as server:
        pass
    with pytest.raises(RemoteReaderError, match=r"cannot be reached .*refused.*Is it running"):
        ask(server)


def test_a_redirect_is_not_followed_even_to_a_server_that_is_there() -> None:
    with chat_server(GOOD) as other:
        message, _ = failure(status(307, Location=f"{other.url}/chat/completions"))
    assert other.url in message
    assert other.requests == []


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks9://nowhere:1")
    message, asked = failure(GOOD)
    assert "cannot be asked through the proxy" in message
    assert asked == 0


def test_certificates_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    message, asked = failure(GOOD)
    assert "with the certificates, that the environment names" in message
    assert asked == 0
