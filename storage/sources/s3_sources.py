"""Sources on S3: brought to bounded scratch space, hashed on the way.

Endpoint and credentials come from the environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from storage.records import Source
from storage.stores.s3_client import (
    ObjectAddress,
    file_system,
    is_refused_condition,
    list_objects,
    parse_uri,
    request,
    s3_errors,
)
from storage.stores.s3_read import read_object
from storage.stores.scratch import scratch_folder
from storage.stores.space import space_errors
from tempo_core.errors import NoSpace, SourceChanged, SourceError

MOST_NAME_BYTES = 255  # of a file, on every common file system


def stat_object(uri: str) -> tuple[int, str]:
    """(bytes, ETag) of an object; SourceError if it cannot be reached."""
    with _source_errors(uri):
        answer = request(file_system({}), "head_object", parse_uri(uri))
    return int(answer["ContentLength"]), _mark(answer["ETag"])


def list_below(uri: str) -> list[Source]:
    """The object itself, and those below it as a prefix; SourceError if the bucket cannot be listed."""
    below = uri if uri.endswith("/") or not parse_uri(uri).key else f"{uri}/"
    return [one for one in list_beginning(uri) if one.uri == uri or one.uri.startswith(below)]


def list_beginning(uri: str) -> list[Source]:
    """All objects whose URI begins so, with size and ETag as listed; SourceError if the bucket cannot be listed."""
    address = parse_uri(uri)
    with _source_errors(uri):
        return [
            Source(ObjectAddress(address.bucket, one["Key"]).uri, int(one["Size"]), _mark(one["ETag"]))
            for one in list_objects(file_system({}), address.bucket, address.key)
        ]


@contextmanager
def fetched_object(source: Source, scratch: Path, deadline: float) -> Iterator[tuple[Path, str]]:
    """(local file, SHA-256 hex) of the object as it was when ``source`` was taken; gone at the end of the context."""
    with scratch_folder(scratch) as folder:
        free = shutil.disk_usage(folder).free
        if source.size > free:
            raise NoSpace(f"{source.uri} has {source.size} bytes, {scratch} only {free} free: free some or use another")
        path = folder / _scratch_name(parse_uri(source.uri).key)
        with _source_errors(source.uri):
            sha256 = _download(source, path, deadline)
        yield path, sha256


def _scratch_name(key: str) -> str:
    """The last part of a key, up to 1024 bytes; a short one of its suffix where no file can be named so."""
    name = key.rpartition("/")[2]
    if name in {"", ".", ".."} or "\0" in name or len(os.fsencode(name)) > MOST_NAME_BYTES:
        suffix = PurePosixPath(name).suffix
        return f"object{suffix}" if suffix.isascii() and suffix[1:].isalnum() and len(suffix) < 20 else "object"
    return name


def _mark(etag: object) -> str:
    return str(etag).strip('"')


def _download(source: Source, path: Path, deadline: float) -> str:
    digest = hashlib.sha256()
    with space_errors(str(path.parent)), path.open("wb") as file:
        address = parse_uri(source.uri)
        for chunk in read_object(file_system({}), address, source.size, f'"{source.modified}"', deadline):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


@contextmanager
def _source_errors(uri: str) -> Iterator[None]:
    try:
        with s3_errors(uri, SourceError):
            yield
    except FileNotFoundError:
        raise SourceError(f"{uri}: no such object or bucket") from None
    except EOFError as error:
        raise SourceError(f"{uri}: {error}") from error
    except SourceError as error:
        if is_refused_condition(error.__cause__):
            raise SourceChanged(f"{uri} changed while it was read; index it again when it is complete") from error
        raise
