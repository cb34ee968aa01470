"""The options of commands: those that several share, and those that follow from the fields of ``IndexRequest``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from flows.request import IndexRequest, request_option


def _typer_option(field: str) -> Any:
    described, option = IndexRequest.model_fields[field], request_option(field)
    texts: Any = {"metavar": option.metavar, "envvar": option.variable, "help": described.description}
    if option.name is None:
        return typer.Argument(**texts, show_default=False)
    shown = described.default not in (None, False, []) and not described.is_required()
    return typer.Option(option.name, **texts, show_default=shown)


LibraryOption = Annotated[str, _typer_option("library")]
ModelOption = Annotated[str | None, _typer_option("model")]
FeaturesOption = Annotated[str | None, _typer_option("features")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="JSON objects on standard output and nothing else; logs on standard error.")
]


def takes_request(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is an ``IndexRequest``, with the request's fields as options in its place."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def with_options(**values: Any) -> None:
        fields = {name: values.pop(name) for name in IndexRequest.model_fields}
        command(IndexRequest.checked(fields), **values)

    fields = [_parameter(name) for name in IndexRequest.model_fields]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    vars(with_options)["__signature__"] = inspect.Signature([*fields, *own])
    return with_options


def _parameter(field: str) -> inspect.Parameter:
    described = IndexRequest.model_fields[field]
    return inspect.Parameter(
        field,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if described.is_required() else described.default,
        annotation=Annotated[_bare(described.annotation), _typer_option(field)],
    )


def _bare(annotation: Any) -> Any:
    """A type without the validators inside it: the request runs those, and typer would not know them."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return str
    inner = tuple(map(_bare, get_args(annotation)))
    if get_origin(annotation) in {Union, UnionType}:
        return Union[inner]  # noqa: UP007 - of types known only now
    return list[inner[0]] if inner else annotation  # type: ignore[valid-type]
