"""The errors of the program are one tree, and the drawing of it is true."""

from __future__ import annotations

import inspect
import re

from tempo_core import errors


def drawn() -> dict[str, str]:
    """Each error of the drawing, with the one that it hangs below."""
    parents, path = dict[str, str](), list[str]()
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^([│├└─ ]*)([A-Z]\w+)(?:\s{2,}|$)", line):
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            parents[match[2]] = path[depth - 1] if depth else "Exception"
    return parents


def test_every_error_is_drawn_below_the_one_that_it_is_a_kind_of() -> None:
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    assert {kind.__name__: kind.__bases__[0].__name__ for kind in classes} == drawn()
