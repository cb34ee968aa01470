"""Where S3 is, as the AWS tools find out: the environment first, then the profile in ~/.aws (AWS_PROFILE names it).

s3fs reads profiles by itself, LanceDB only their keys. So both are given what is found here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import botocore.session
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.exceptions import BotoCoreError

from tempo_core.errors import UsageError

_VARIABLES = ("HOME", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
_STATIC = ("shared-credentials-file", "config-file")  # botocore's names of where keys stand as they are


@dataclass(frozen=True)
class Profile:
    """What a user's profile says; keys only if they stand in it and do not expire."""

    endpoint: str | None
    region: str | None
    keys: Mapping[str, str]


def endpoint(options: Mapping[str, str]) -> str | None:
    """The endpoint that is asked for, None for AWS itself. ``options``: LanceDB's names."""
    given = options.get("aws_endpoint") or options.get("endpoint")
    set_here = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return given or set_here or profile().endpoint


def region(options: Mapping[str, str]) -> str | None:
    """The region that is asked for, None for the endpoint's own."""
    set_here = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return options.get("aws_region") or options.get("region") or set_here or profile().region


def keys(options: Mapping[str, str]) -> Mapping[str, str]:
    """The profile's keys as LanceDB's options; none where others are given, or found by it (a role, a program)."""
    if "aws_access_key_id" in options or os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}
    return profile().keys


def profile() -> Profile:
    """The profile that the environment names; UsageError where it names one that is not there."""
    return _profile(tuple(os.environ.get(name) for name in _VARIABLES))


@lru_cache(maxsize=16)
def _profile(_environment: tuple[str | None, ...]) -> Profile:
    session = botocore.session.Session()
    try:
        scoped = session.get_scoped_config()
        found = ConfiguredEndpointProvider(session.full_config, scoped, "s3", environ={}).provide()
        return Profile(found, session.get_config_variable("region"), _keys(session))
    except BotoCoreError as error:
        raise UsageError(f"the settings of the AWS tools cannot be used: {error}") from error


def _keys(session: botocore.session.Session) -> dict[str, str]:
    provider = session.get_component("credential_provider")
    for name in _STATIC:
        if (found := provider.get_provider(name).load()) is not None:
            token = {"aws_session_token": found.token} if found.token else {}
            return {"aws_access_key_id": found.access_key, "aws_secret_access_key": found.secret_key, **token}
    return {}
