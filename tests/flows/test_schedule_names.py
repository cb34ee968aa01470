"""The name of a library's schedule in Prefect."""

from __future__ import annotations

import pytest

from flows.terminal.commands.schedule import deployment_name


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("/srv/lib", "srv-lib"),
        ("file:///srv/lib/", "srv-lib"),
        ("/srv/x/../lib", "srv-lib"),
        ("s3://b/lib/", "s3-b-lib"),
    ],
)
def test_a_plain_address_is_the_name(library: str, name: str) -> None:
    assert deployment_name(library) == name


def test_no_library_takes_another_s_name() -> None:
    libraries = [
        *(
            "/srv/lib-a",
            "/srv/lib/a",
            "/srv/my lib",
            "/srv/my-lib",
            "/srv/x",
            "/srv-x",
            "/a+b",
            "/a b",
            "/",
            "/library",
        ),
        *("/srv/a", "s3://srv/a", "/s3/srv/a", "/s3:/srv/a", "s3://srv/a#", "s3://srv/a%", "/caf\udce9", "/caf\udce8"),
    ]
    assert len(set(map(deployment_name, libraries))) == len(libraries)
