"""The Prefect flow without a server: what decides for Prefect, what is checked, what is tried again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.deadline import TIME_OF_DAY
from flows.on_prefect.api import check_answers, configured_api, needed_api
from storage.stores import LOCATION
from tempo_core.errors import LibraryBusy, LibraryError, SourceError, TempoError, UsageError
from tests.support import ROOT
from tests.support.tempo_cli import ended, small_video, start

NOWHERE = "http://127.0.0.1:9/api"


@pytest.fixture(autouse=True)
def no_prefect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server and no settings, whatever the developer has."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_PROFILES_PATH", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


def in_a_process(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    said = ended(start([sys.executable, "-c", code, *map(str, arguments)], **environment))
    return subprocess.CompletedProcess([], said.code, said.out, said.err)


# --- with Prefect or without -----------------------------------------------------------------------------------------

PLAIN = """
import sys
from flows.cli import app
sys.argv = ["tempo", "index", sys.argv[1], "--library", sys.argv[2], "--json"]
try:
    app()
finally:
    print(*sorted({"prefect"} & sys.modules.keys()), file=sys.stderr)
"""


@pytest.mark.slow
def test_a_plain_run_does_not_load_prefect(tmp_path: Path) -> None:
    done = in_a_process(PLAIN, small_video(tmp_path / "a.mp4"), tmp_path / "library")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == ""


def test_nothing_is_configured_where_nothing_says_so() -> None:
    assert "prefect" in (ROOT / "pyproject.toml").read_text()  # it is a dependency, and no setting
    assert configured_api() is None


def test_the_environment_configures_an_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", NOWHERE)
    assert configured_api() == NOWHERE


FOUND = "from flows.on_prefect.api import configured_api; print(configured_api())"


@pytest.mark.parametrize(("active", "found"), [("mine", NOWHERE), ("other", "None")])
def test_the_active_profile_configures_an_api(tmp_path: Path, active: str, found: str) -> None:
    text = f'active = "{active}"\n[profiles.mine]\nPREFECT_API_URL = "{NOWHERE}"\n[profiles.other]\n'
    (tmp_path / "profiles.toml").write_text(text)
    assert in_a_process(FOUND, PREFECT_HOME=str(tmp_path)).stdout.strip() == found


def test_an_api_that_does_not_answer_is_one_error_with_the_way_out() -> None:
    with pytest.raises(
        TempoError, match=r"127\.0\.0\.1:9.*does not answer.*prefect server start.*unset PREFECT_API_URL"
    ):
        check_answers(NOWHERE)


def test_a_schedule_without_an_api_teaches_how_to_have_one() -> None:
    with pytest.raises(UsageError, match=r"(?s)prefect server start.*prefect config set PREFECT_API_URL="):
        needed_api()


# --- what is checked -------------------------------------------------------------------------------------------------

GOOD = {"sources": ["/archive"], "library": "/lib"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"sources": []},
        {"sources": [""]},
        {"library": "gs://bucket/lib"},
        {"library": "s3:/bucket/lib"},
        {"library": ""},
        {"spec": "nope"},
        {"until": "25:00"},
        {"until": 360},
        {"until": "soon"},
        {"max_hours": 0},
        {"max_hours": float("nan")},
        {"max_hours": 1e300},
        {"settle_s": -1},
        {"settle_s": float("nan")},
        {"ray": "ray://host:10001"},
        {"retry_failed": "perhaps"},
    ],
    ids=str,
)
def test_a_wrong_parameter_is_refused(wrong: dict[str, object]) -> None:
    from prefect.exceptions import ParameterTypeError

    from flows.on_prefect.flow import index_library

    with pytest.raises((UsageError, ParameterTypeError)):
        index_library.validate_parameters({**GOOD, **wrong})


def test_what_can_be_meant_is_let_through() -> None:
    from flows.on_prefect.flow import index_library

    given = {
        **GOOD,
        "spec": "paper",
        "until": "6:30",
        "max_hours": 5,
        "library": "s3://bucket/lib",
        "include": ["*.mp4"],
    }
    assert index_library.validate_parameters(given)["until"] == "6:30"


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        (LOCATION, "/srv/lib", True),
        (LOCATION, "lib", True),
        (LOCATION, "s3://bucket/lib", True),
        (LOCATION, "s3://bucket", False),
        (LOCATION, "gs://bucket/lib", False),
        (LOCATION, "http:/x", False),
        (TIME_OF_DAY, "06:00", True),
        (TIME_OF_DAY, "6:00", True),
        (TIME_OF_DAY, "24:00", False),
        (TIME_OF_DAY, "6", False),
    ],
)
def test_the_patterns_that_prefects_server_checks(pattern: str, text: str, fits: bool) -> None:
    assert (re.search(pattern, text) is not None) == fits


# --- what is tried again ---------------------------------------------------------------------------------------------


def caused(error: TempoError, cause: BaseException) -> TempoError:
    error.__cause__ = cause
    return error


def test_only_what_may_pass_by_itself_is_tried_again() -> None:
    from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ReadTimeoutError

    from flows.on_prefect.flow import may_pass

    away = EndpointConnectionError(endpoint_url="http://127.0.0.1:9")
    slow = ReadTimeoutError(endpoint_url="http://127.0.0.1:9")
    assert may_pass(LibraryBusy("held"))
    assert may_pass(caused(SourceError("s3://bucket/x"), away))
    assert may_pass(caused(LibraryError("s3://bucket/lib"), slow))
    assert may_pass(caused(LibraryError("s3://bucket/lib"), TimeoutError()))
    assert not may_pass(caused(SourceError("s3://bucket/x"), NoCredentialsError()))
    assert not may_pass(caused(SourceError("/archive"), FileNotFoundError()))
    assert not may_pass(SourceError("/archive: no such file or folder"))
    assert not may_pass(UsageError("no index spec 'nope'"))
    assert not may_pass(None)
