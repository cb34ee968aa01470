"""The address of a server and the key for it: checked before anything is done, and the key is never shown."""

from __future__ import annotations

import pytest

from serving.chat_server import ChatServer, Key
from serving.chat_server import chat_server as named_server
from tempo_core.errors import UsageError

SECRET = "sk-4711-do-not-tell"


def named(address: str, **environment: str) -> ChatServer:
    return named_server(address, environment, lambda _: None)


def test_an_address_is_the_servers_and_a_model_behind_a_hash() -> None:
    server = named("https://gpu7.example:8000/v1/#Qwen/Qwen3-VL-8B-Instruct")
    assert (server.url, server.model) == ("https://gpu7.example:8000/v1", "Qwen/Qwen3-VL-8B-Instruct")
    assert server.key is None


def test_the_key_is_the_environments_and_in_no_text_of_a_server() -> None:
    server = named("http://h/v1#m", OPENAI_API_KEY="sk-other", TEMPO_READER_KEY=SECRET)
    assert server.key == Key("TEMPO_READER_KEY", SECRET)
    assert SECRET not in repr(server)
    other = named("http://h/v1#m", OPENAI_API_KEY="sk-other", TEMPO_READER_KEY="")
    assert other.key == Key("OPENAI_API_KEY", "sk-other")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://host:8000/v1", "names no model: write it behind a #"),
        ("ftp://host/v1#m", "not one of a server over http or https"),
        ("host:8000/v1#m", "not one of a server over http or https"),
        ("http:///v1#m", "not one of a server over http or https"),
        ("http://host:99999/v1#m", "not one of a server over http or https"),
        ("http://host:port/v1#m", "none that can be read"),
        ("http://a..b/v1#m", "none that can be read"),
        (f"http://user:{SECRET}@host/v1#m", "has a user, a password or a query in it"),
        (f"http://host/v1?key={SECRET}#m", "has a user, a password or a query in it"),
        (f"user:{SECRET}@host/v1#m", "has a user, a password or a query in it"),
        (f"https:/user:{SECRET}@host/v1#m", "has a user, a password or a query in it"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_anything_is_done(address: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        named(address)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "two\nlines", "clé"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(UsageError, match="TEMPO_READER_KEY holds characters that no key has") as caught:
        named("http://h/v1#m", TEMPO_READER_KEY=key)
    assert key not in str(caught.value)
