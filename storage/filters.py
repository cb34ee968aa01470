"""Filters of rows, as LanceDB takes them."""

from __future__ import annotations

from collections.abc import Iterable


def one_of(column: str, values: Iterable[str]) -> str:
    """The filter ``column IN (...)``, quoted."""
    return f"{column} IN ({', '.join(quoted(value) for value in values)})"


def begins_with(column: str, beginnings: Iterable[str]) -> str:
    """The filter for values that begin with one of ``beginnings``."""
    return "(" + " OR ".join(f"starts_with({column}, {quoted(beginning)})" for beginning in beginnings) + ")"


def quoted(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"
