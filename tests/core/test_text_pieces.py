"""An answer's text as it is generated: the same as the whole text, in pieces of whole characters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempo_core.prompts import PromptEncoder
from tests.support.golden_cases import golden_checkpoint

VOCABULARY = 470


def encoder() -> PromptEncoder:
    return golden_checkpoint().answerer._prompts


def pieces_of(ids: list[int]) -> list[str]:
    return list(encoder().text_pieces(ids))


@given(st.text())
def test_characters_of_several_tokens_come_whole(text: str) -> None:
    prompts = encoder()
    ids = prompts._untrusted(text)
    pieces = pieces_of(ids)
    assert "".join(pieces) == prompts.decode(ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=30))
def test_pieces_of_any_tokens_join_to_their_text(ids: list[int]) -> None:
    assert "".join(pieces_of(ids)) == encoder().decode(ids)


def test_an_answer_is_decoded_whole_once_not_again_for_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, decoded = encoder(), list[int]()
    whole = prompts.decode

    def noting(token_ids: list[int]) -> str:
        decoded.append(len(token_ids))
        return whole(token_ids)

    ids = prompts._untrusted("one two three")
    monkeypatch.setattr(prompts, "decode", noting)
    assert "".join(pieces_of(ids)) == "one two three"
    assert decoded == [len(ids)]


def test_text_comes_as_soon_as_it_is_whole() -> None:
    prompts = encoder()
    tokens = iter(prompts._untrusted("one 日 two"))
    taken: list[int] = []

    def watched() -> Iterator[int]:
        for token in tokens:
            taken.append(token)
            yield token

    pieces = prompts.text_pieces(watched())
    first = "".join(islice(pieces, 1))
    assert first == prompts.decode(taken)
    assert len(taken) == 1
    assert first + "".join(pieces) == "one 日 two"
