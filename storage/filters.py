"""Filters of rows, as LanceDB takes them."""

from __future__ import annotations

from collections.abc import Iterable


def one_of(column: str, values: Iterable[str]) -> str:
    """The filter ``column IN (...)``. A value that is no text is in no column."""
    texts = [quoted(value) for value in values if is_text(value)]
    return f"{column} IN ({', '.join(texts)})" if texts else "false"


def begins_with(column: str, beginnings: Iterable[str]) -> str:
    """The filter for values that begin with one of ``beginnings``."""
    return "(" + " OR ".join(f"starts_with({column}, {quoted(beginning)})" for beginning in beginnings) + ")"


def is_text(value: str) -> bool:
    """Whether a value is UTF-8 text: bytes of a file's name may be none, and are in no column then."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def quoted(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"
