"""What a user asks a run for. Each field of ``IndexRequest`` is an option of ``tempo index`` and ``tempo schedule``,
and a parameter of the Prefect flow: to add one, add a field here, and read it where the run is to act on it.

A field's description is its help text and the text of Prefect's form, its validators are the only ones, and its
``Option`` is what the command line calls it. Prefect's server checks the JSON schema before there is a run; the
validators, whose errors say more, run wherever a request is built.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar, get_type_hints
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from flows.deadline import MOST_HOURS, TIME_OF_DAY, deadline, parse_time_of_day
from flows.models import FEATURES_HELP, MODEL_HELP
from tempo_core.errors import UsageError
from tempo_core.local_paths import local_path
from tempo_core.spec import NAMED_SPECS, Keep, named_spec

Result = TypeVar("Result")

LIST_SIGN = "@"  # before the name of a list of sources
RAY_ADDRESS = r"^(auto|off|local|[^/\s]*[^:/\s]:\d{1,5})$"


@dataclass(frozen=True)
class Option:
    """How a field is given on the command line. ``name`` None: as an argument. ``variable``: of the environment."""

    name: str | None
    metavar: str | None = None
    variable: str | None = None


def check_ray_address(address: str) -> str:
    """``address`` if it says where a run's workers may be; UsageError otherwise."""
    if re.fullmatch(RAY_ADDRESS, address) is None:
        raise UsageError(f"--ray {address!r} is not auto, off, local or the HOST:PORT of a cluster (10.0.0.5:6379)")
    return address


def _library_location(uri: str) -> str:
    from storage.stores import check_location  # with storage come pyarrow and LanceDB, which `--help` does not need

    return check_location(uri)


class _LocationPattern:
    """What of ``check_location`` a JSON schema can say."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        from storage.stores import LOCATION

        return {**handler(core_schema), "pattern": LOCATION}


def _known_spec(name: str) -> str:
    return named_spec(name).name


def _time_of_day(text: str) -> str:
    parse_time_of_day(text)
    return text.strip()


def _as_text(name: object) -> object:
    """A local name that is not UTF-8 as a file:// address with its bytes escaped, wildcards kept: a request is text."""
    if name == "":
        raise UsageError("an empty name is not a SOURCE; is a variable of the shell unset?")
    if not isinstance(name, str) or name.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in name):
        return name
    sign = LIST_SIGN if name.startswith(LIST_SIGN) else ""
    path = local_path(name.removeprefix(sign))
    return f"{sign}file://{quote(os.fsencode(path), safe='/*?[]')}"


def _no_yaml_number(value: object) -> object:
    """UsageError for 06:30 written without quotation marks, which YAML reads as a number (360 or 390)."""
    if isinstance(value, int):
        raise UsageError(f'until: {value} is not a time of day; put it in quotation marks in YAML: "06:30"')
    return value


_Name = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]
_Location = Annotated[str, AfterValidator(_library_location), _LocationPattern()]
_SpecName = Annotated[str, AfterValidator(_known_spec), Field(json_schema_extra={"enum": list(NAMED_SPECS)})]
_RayAddress = Annotated[str, AfterValidator(check_ray_address), Field(json_schema_extra={"pattern": RAY_ADDRESS})]
_TimeOfDay = Annotated[
    str,
    BeforeValidator(_no_yaml_number),
    AfterValidator(_time_of_day),
    Field(json_schema_extra={"pattern": TIME_OF_DAY}),
]
_Seconds = Annotated[float, Field(ge=0)]
_Hours = Annotated[float, Field(gt=0, le=MOST_HOURS)]


class IndexRequest(BaseModel):
    """A run's options, checked. UsageError or pydantic's ValidationError for a value that cannot be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: Annotated[
        list[_Name],
        Option(None, "SOURCE..."),
        Field(
            min_length=1,
            description="Video files, folders, patterns (in quotation marks, ** for any depth), s3:// addresses and "
            "patterns, or @FILE: a list of them, one a line.",
        ),
    ]
    library: Annotated[
        _Location,
        Option("--library", "URI", "TEMPO_LIBRARY"),
        Field(description="The library: a folder, or s3://bucket/prefix."),
    ]
    model: Annotated[str | None, Option("--model", "ID", "TEMPO_MODEL"), Field(description=MODEL_HELP)] = None
    features: Annotated[str | None, Option("--features", "ID", "TEMPO_FEATURES"), Field(description=FEATURES_HELP)] = (
        None
    )
    spec: Annotated[
        _SpecName | None,
        Option("--spec", "NAME"),
        Field(
            description="How videos are sampled: paper (2 frames/s, at most 1024), paper-int8 (its states at half the "
            "bytes), paper-2048, dense (no cap), keyframes (a fraction of the decoding), paper-nvdec and "
            "keyframes-nvdec (decoded on an NVIDIA GPU). Default: the library's, else paper.",
        ),
    ] = None
    keep: Annotated[
        Keep | None,
        Option("--keep", "states|frames"),
        Field(
            description="What is kept of a new video: its states, or frames alone, at a fraction of its bytes: a "
            "question computes the states it needs, with the same answer, but later. Videos that are there stay as "
            "they are. Default: what the last run was told, else states.",
        ),
    ] = None
    include: Annotated[
        list[str],
        Option("--include", "PATTERN"),
        Field(
            description="Only what fits this pattern; may be given again. As in .gitignore: '*.mp4' and 'cam1' fit a "
            "name of a file or folder at any depth, '/2026/*/cam1' a path from the SOURCE on.",
        ),
    ] = []
    exclude: Annotated[
        list[str],
        Option("--exclude", "PATTERN"),
        Field(description="Nothing that fits this pattern, also where an --include fits; may be given again."),
    ] = []
    settle_s: Annotated[
        _Seconds,
        Option("--settle", "SECONDS", "TEMPO_SETTLE"),
        Field(
            description="A file that is found below a folder or by a pattern and is younger than this waits for the "
            "next run: it may still be written. One that is named itself is taken at once.",
        ),
    ] = 10.0
    retry_failed: Annotated[bool, Option("--retry-failed"), Field(description="Try again what failed before.")] = False
    until: Annotated[
        _TimeOfDay | None,
        Option("--until", "HH:MM"),
        Field(
            description="Begin no video after this time of day. Up to six hours after it, the time is over and nothing "
            "is begun; later it is tomorrow's. What is left goes first in the next run.",
        ),
    ] = None
    max_hours: Annotated[
        _Hours | None,
        Option("--max-hours", "H"),
        Field(
            description="Begin no video after so many hours (5.5). With --until, the earlier of the two counts.",
        ),
    ] = None
    ray: Annotated[
        _RayAddress,
        Option("--ray", "WHERE", "RAY_ADDRESS"),
        Field(
            description="Where to work: auto (a few videos in this process, more on a Ray of this machine), off (all "
            "in this process), local (a Ray of this machine), or HOST:PORT of a running cluster.",
        ),
    ] = "auto"

    @classmethod
    def checked(cls, values: dict[str, Any]) -> IndexRequest:
        """The request of these values; UsageError, with the option's name, for one that cannot be used."""
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            option = request_option(field) if field in cls.model_fields else Option(field)
            raise UsageError(f"{option.name or option.metavar} {first['input']}: {first['msg']}") from None

    def ends_at(self, now: datetime) -> datetime | None:
        """The moment after which a run that is asked for ``now`` begins no video; None if it may go on."""
        return deadline(self.until, self.max_hours, now)


_FIELDS: dict[str, Any] = get_type_hints(IndexRequest, include_extras=True)


def request_option(field: str) -> Option:
    """How a field of ``IndexRequest`` is given on the command line."""
    return next(mark for mark in IndexRequest.model_fields[field].metadata if isinstance(mark, Option))


def takes_fields(function: Callable[..., Result]) -> Callable[..., Result]:
    """``function(**fields)``, with the fields of ``IndexRequest`` in the signature and docstring that Prefect shows."""
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.is_required() else field.default,
            annotation=_FIELDS[name],
        )
        for name, field in IndexRequest.model_fields.items()
    ]
    vars(function)["__signature__"] = inspect.Signature(parameters)
    described = [f"    {name}: {field.description}" for name, field in IndexRequest.model_fields.items()]
    function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Args:", *described])
    return function
