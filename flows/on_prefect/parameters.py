"""The parameters of the Prefect flow, each with what it may be: checked by Prefect before a run starts.

Prefect's server refuses by the JSON schema (types, names, patterns), before there is a run; the validators here, with
the house's own words, run once more where the run is to start, and when ``tempo schedule`` is called.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from flows.run.clock import MOST_HOURS, time_of_day
from tempo_core.errors import UsageError
from tempo_core.spec import NAMED_SPECS, named_spec

PLACE = r"^(s3://[^/]+/.+|file:///.+|(?![A-Za-z][A-Za-z0-9+.\-]*:/).+)$"
RAY = r"^(auto|off|local|(?!ray://).*[^:/]:\d{1,5})$"
CLOCK = r"^([01]?\d|2[0-3]):[0-5]\d$"


def check_library(uri: str) -> str:
    """``uri`` if a library can be there; UsageError for a mistyped or foreign address."""
    if re.fullmatch(PLACE, uri) is None:
        raise UsageError(f"{uri!r} is no place for a library; give a folder, or s3://bucket/prefix")
    return uri


def _ray_place(place: str) -> str:
    if re.fullmatch(RAY, place) is None:
        raise UsageError(f"ray: {place!r} is neither auto, off, local nor the HOST:PORT of a cluster")
    return place


def _known_spec(name: str) -> str:
    return named_spec(name).name


def _time_of_day(text: str) -> str:
    time_of_day(text)
    return text.strip()


def _no_yaml_number(value: object) -> object:
    """UsageError for 06:30 written without quotation marks: YAML reads it as a number (360 or 390)."""
    if isinstance(value, int):
        raise UsageError(f'until: {value} is not a time of day; put it in quotation marks in YAML: "06:30"')
    return value


SourceNames = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(min_length=1, description="Video files, folders, patterns, or s3:// addresses."),
]
LibraryPlace = Annotated[
    str,
    AfterValidator(check_library),
    Field(description="A folder, or s3://bucket/prefix.", json_schema_extra={"pattern": PLACE}),
]
SpecName = Annotated[
    str,
    AfterValidator(_known_spec),
    Field(description="How videos are sampled.", json_schema_extra={"enum": list(NAMED_SPECS)}),
]
TimeOfDay = Annotated[
    str,
    BeforeValidator(_no_yaml_number),
    AfterValidator(_time_of_day),
    Field(
        description="HH:MM by the clock of the machine that runs it; no video is begun after it.",
        json_schema_extra={"pattern": CLOCK},
    ),
]
RayPlace = Annotated[
    str,
    AfterValidator(_ray_place),
    Field(
        description="auto, off (all in one process), local, or HOST:PORT of a cluster.",
        json_schema_extra={"pattern": RAY},
    ),
]
Hours = Annotated[float, Field(gt=0, le=MOST_HOURS, description="No video is begun after so many hours.")]
Seconds = Annotated[float, Field(ge=0, description="A file younger than this is left for the next run.")]
