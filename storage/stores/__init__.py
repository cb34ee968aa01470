"""Where the bytes of a library are: a folder or an S3 prefix behind one protocol (``base.Store``)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from storage.stores.base import Store
from tempo_core.errors import UsageError
from tempo_core.local_paths import local_path

_S3_PREFIX = r"s3://[^/]+(/(?!\.{1,2}(/|$))[^/]+)+/*"  # LanceDB takes no empty part, and would resolve . and ..
LOCATION = rf"^({_S3_PREFIX}|file:///.+|(?=.*\S)(?![A-Za-z][A-Za-z0-9+.\-]*:/).+)$"


def check_location(uri: str) -> str:
    """``uri`` if a library can be there: a path, file:///path or s3://bucket/prefix (no // in it); else UsageError.

    A mistyped or foreign scheme (s3:/x, http://x) would become a folder of that name, and the root of a bucket is
    shared with all else in it.
    """
    if re.fullmatch(LOCATION, uri, re.DOTALL) is None or not _is_text(uri):
        raise UsageError(f"{uri!r} is not an address of a library; give a folder, or s3://bucket/prefix")
    return uri


def open_store(uri: str, options: Mapping[str, str] | None = None) -> Store:
    """The store at an address that ``check_location`` accepts; nothing is created or contacted yet.

    ``options``: LanceDB's names for S3; what is not given comes from the environment.
    """
    check_location(uri)
    if uri.startswith("s3://"):
        from storage.stores.s3_store import S3Store  # s3fs takes a second to import: only a library on S3 pays it

        return S3Store(uri, options or {})
    from storage.stores.local_store import LocalStore

    return LocalStore(local_path(uri))


def _is_text(uri: str) -> bool:
    """Whether ``uri`` is UTF-8, as LanceDB's addresses are; a path of other bytes has surrogates for them."""
    return not any("\ud800" <= letter <= "\udfff" for letter in uri)
