"""What a run is asked for: one record, from which the command line and the Prefect flow take their options."""

from __future__ import annotations

import pytest
from typer.main import get_command

from flows.cli import app
from flows.request import IndexRequest, request_option
from tempo_core.errors import UsageError

FIELDS = list(IndexRequest.model_fields)


@pytest.mark.parametrize("command", ["index", "schedule"])
def test_every_field_is_an_option_of_both_commands(command: str) -> None:
    parameters = get_command(app).commands[command].params  # type: ignore[attr-defined]
    described = {parameter.name: (parameter.opts, parameter.metavar, parameter.help) for parameter in parameters}
    for field in FIELDS:
        option, description = request_option(field), IndexRequest.model_fields[field].description
        assert described[field] == ([option.name or field], option.metavar, description)


def test_every_field_is_a_parameter_of_the_flow_with_its_description_and_default() -> None:
    from flows.on_prefect.flow import index_library

    schema = index_library.parameters
    assert list(schema.properties) == FIELDS
    assert schema.required == ["sources", "library"]
    for name, field in IndexRequest.model_fields.items():
        shown = schema.properties[name]
        assert shown["description"] == field.description
        assert field.is_required() or shown["default"] == field.default


def test_the_flow_is_shown_what_may_be_given() -> None:
    from flows.on_prefect.flow import index_library

    shown = index_library.parameters.properties
    assert shown["library"]["pattern"].startswith("^(s3://")
    assert "paper" in shown["spec"]["anyOf"][0]["enum"]
    assert shown["max_hours"]["anyOf"][0]["exclusiveMinimum"] == 0


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_hours": 0}, "--max-hours 0"),
        ({"settle_s": -1}, "--settle -1"),
        ({"sources": []}, "SOURCE"),
        ({"sources": ["a", ""]}, "empty name is not a SOURCE"),
        ({"colour": "red"}, "colour"),
        ({"until": "25:00"}, "--until '25:00'"),
        ({"ray": "ray://host:10001"}, "--ray 'ray://host:10001'"),
        ({"library": "gs://bucket/lib"}, "gs://bucket/lib"),
        ({"spec": "nope"}, "'nope'"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_used_is_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        IndexRequest.checked({"sources": ["/archive"], "library": "/lib", **wrong})
