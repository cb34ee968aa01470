"""What there is to index: the videos that names stand for, and which of them are still being written."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from storage import ALL_MODELS, Library, Source, stat_source
from storage.sources.fetch import local_path
from storage.sources.patterns import Selection
from storage.sources.places import Place, Sighting, look_up, place_key
from tempo_core.errors import SourceError, UsageError

DEFAULT_SETTLE_S = 10.0
LOOK_AGAIN_S = 0.2  # between two looks at a file that may be growing
LIST_SIGN = "@"


@dataclass(frozen=True)
class Unsettled:
    """A file that is still being written, and how that was seen."""

    source: Source
    reason: str


@dataclass(frozen=True)
class Found:
    """The videos that were asked for, ordered by URI, and ``covers``: which URIs were asked for, there or not.

    One that cannot even be looked at (a dangling link) is among ``sources`` with no size, so that its turn comes and
    its reason is recorded; it costs no other video.
    """

    sources: tuple[Source, ...]
    unsettled: tuple[Unsettled, ...]
    places: tuple[Place, ...]
    selection: Selection

    def covers(self, uri: str) -> bool:
        """Whether a video of this URI would have been found if it were there.

        Not so where it is excluded, where its folder could not be read, and below folders that were not named.
        """
        key = place_key(uri)
        if key in self._files and self.selection.wants(key.rsplit("/", 1)[-1]):
            return True  # at once: a list may name a hundred thousand files
        if not key.startswith(self._roots):
            return False
        found = (place.below(key) for place in self.places)
        return any(below is not None and self.selection.wants(below) for below in found)

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(place.file for place in self.places if place.file is not None)

    @cached_property
    def _roots(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(place.root for place in self.places))


def find_sources(
    names: Sequence[str],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    settle_s: float = DEFAULT_SETTLE_S,
) -> Found:
    """The videos that ``names`` stand for: files, folders, patterns, s3:// addresses, and ``@FILE`` for a list of them.

    ``include``, ``exclude``: patterns (``patterns.Selection``) of paths below what was named. A file of this
    machine that was found by search and is younger than ``settle_s`` seconds, or changes while it is looked at twice,
    is unsettled; one that was named itself is taken at once, and S3 objects are whole when they can be seen.
    SourceError if a list cannot be read or a bucket not be listed, UsageError for a wrong pattern.
    """
    if not settle_s >= 0:
        raise UsageError(f"a settle time of {settle_s} s cannot be meant; give seconds, 0 to wait for no file")
    selection = Selection(include, exclude)
    places = tuple(_places(names))
    sightings: dict[str, Sighting] = {}
    for video in (video for place in places for video in place.videos if selection.wants(video.below)):
        if not (video.uri in sightings and video.searched):
            sightings[video.uri] = video  # named itself is more than found
    seen = [(sightings[uri], sightings[uri].source or _look_at(uri)) for uri in sorted(sightings)]
    searched = [source for video, source in seen if video.searched and video.source is None]
    unsettled = _unsettled(searched, settle_s) if settle_s else {}
    sources = tuple(source for _, source in seen if source.uri not in unsettled)
    return Found(sources, tuple(unsettled.values()), places, selection)


def expect_something(found: Found, library: Library | None, names: Sequence[str]) -> None:
    """SourceError where a name fits nothing, or all of them: more likely a slip than a wish.

    A place of which the library knows videos is none: they are gone, and that is a result. Nor is an empty list.
    """
    uris = [record.uri for record in library.videos(ALL_MODELS)] if library is not None else []
    keys = set(map(place_key, uris))
    for place in (place for place in found.places if place.nothing is not None):
        if place.file not in keys and all(place.below(key) is None for key in keys):
            raise SourceError(str(place.nothing))
    if found.places and not found.sources and not found.unsettled and not any(map(found.covers, uris)):
        raise SourceError(f"{', '.join(names)}: no video there; name a folder with videos, or files")


def _places(names: Sequence[str]) -> Iterator[Place]:
    for name in names:
        if not name.startswith(LIST_SIGN):
            yield look_up(name)
            continue
        for number, line in _lines(name[1:]):
            yield _listed(line, f"{name[1:]}, line {number}")


def _lines(path: str) -> list[tuple[int, str]]:
    """(line number, source) of a list: one a line, as it is; empty lines and those that begin with # are none."""
    try:
        data = local_path(path).read_bytes()
    except OSError as error:
        raise SourceError(
            f"{LIST_SIGN}{path}: this list of sources cannot be read: {error.strerror or error}"
        ) from error
    lines = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).split("\n")
    numbered = [(number, line.removesuffix("\r")) for number, line in enumerate(lines, 1)]
    return [(number, line) for number, line in numbered if line.strip() and not line.startswith("#")]


def _listed(line: str, origin: str) -> Place:
    if line.startswith(LIST_SIGN):
        raise SourceError(f"{origin}: {line}: a list cannot name another; write ./{line} for a file of that name")
    try:
        place = look_up(line)
    except SourceError as error:
        raise SourceError(f"{origin}: {error}") from error
    return replace(place, nothing=f"{origin}: {place.nothing}") if place.nothing is not None else place


def _look_at(uri: str) -> Source:
    try:
        return stat_source(uri)
    except SourceError:
        return Source(uri, 0, "")


def _unsettled(sources: Sequence[Source], settle_s: float) -> dict[str, Unsettled]:
    """Of files of this machine, by URI. What cannot be looked at is nobody's work in progress."""
    there = [source for source in sources if source.modified]
    young = {one.source.uri: one for source in there if (one := _young(source, settle_s)) is not None}
    others = [source for source in there if source.uri not in young]
    if others:
        time.sleep(LOOK_AGAIN_S)
    growing = (
        Unsettled(one, "still being written: it changed while it was looked at") for one in others if _changed(one)
    )
    return young | {one.source.uri: one for one in growing}


def _young(source: Source, settle_s: float) -> Unsettled | None:
    """A time to come counts as settled: a clock that is ahead (a camera's, a file server's) may stay so for ever, and
    the second look, and a third after reading, see a file that grows.
    """
    age_s = time.time() - int(source.modified) / 1e9
    if not 0 <= age_s < settle_s:
        return None
    return Unsettled(source, f"still being written: changed {age_s:.0f} s ago")


def _changed(before: Source) -> bool:
    return _look_at(before.uri) != before
