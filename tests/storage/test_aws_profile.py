"""S3 as it is set up for the AWS tools: sources and both halves of a library find it in the same place."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import open_library, stat_source
from storage.stores.aws_profile import endpoint, region
from storage.stores.s3_client import file_system
from tempo_core.errors import UsageError
from tests.support.s3_server import CREDENTIALS, Proxy
from tests.support.storage_harness import index

pytestmark = pytest.mark.s3
BUCKET = "profiled"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and nothing of S3 in the environment."""
    for name in (*CREDENTIALS, "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / ".aws").mkdir()
    return tmp_path


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
@pytest.mark.parametrize(
    "section", ["endpoint_url = {0}", "services = own\n[services own]\ns3 =\n  endpoint_url = {0}"]
)
def test_a_profile_says_where_sources_and_libraries_are(
    proxy: Proxy, home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, section: str
) -> None:
    (home / ".aws/config").write_text(f"[profile night]\nregion = us-east-1\n{section.format(proxy.url)}\n")
    (home / ".aws/credentials").write_text("[night]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv(variable, "night")
    file_system({}).call_s3("put_object", Bucket=BUCKET, Key="a.mp4", Body=b"data")
    assert stat_source(f"s3://{BUCKET}/a.mp4").size == 4
    library = open_library(f"s3://{BUCKET}/{variable}/{len(section)}", create=True)
    index(library, {"/a.mp4": 1})
    assert len(open_library(library.uri).videos()) == 1


def test_the_environment_goes_before_the_profile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".aws/config").write_text("[default]\nregion = eu-west-1\nendpoint_url = http://profile\n")
    assert (endpoint({}), region({})) == ("http://profile", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://environment")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert (endpoint({}), region({})) == ("http://environment", "eu-west-2")
    assert (endpoint({"aws_endpoint": "http://option"}), region({"aws_region": "x"})) == ("http://option", "x")


def test_a_profile_that_is_not_there_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UsageError, match="nobody"):
        open_library(f"s3://{BUCKET}/lib", create=True)
