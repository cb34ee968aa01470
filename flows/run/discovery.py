"""What there is to index: the videos that the names of sources stand for, and which are still being written."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from flows.request import LIST_SIGN
from storage import ALL_MODELS, Library, Source, stat_source
from storage.sources.patterns import PathFilter
from storage.sources.source_sets import FoundVideo, SourceSet, comparison_key, expand
from storage.sources.video_files import suffix
from tempo_core.errors import SourceError
from tempo_core.local_paths import local_path

LOOK_AGAIN_S = 0.2  # between two examinations of a file that may be growing
_MOST_KINDS = 8
_LIBRARY_MARK = "library.json"  # what a library holds is none of the user's own files


@dataclass(frozen=True)
class Unsettled:
    """A file that is still being written, and how that was seen."""

    source: Source
    reason: str


@dataclass(frozen=True)
class Discovered:
    """The videos that were asked for, ordered by URI.

    One that cannot even be examined (a dangling link) is among ``sources`` with a size of 0, so that it is tried, and
    its reason recorded, like any other.
    """

    sources: tuple[Source, ...]
    unsettled: tuple[Unsettled, ...]
    source_sets: tuple[SourceSet, ...]
    paths: PathFilter

    def covers(self, uri: str) -> bool:
        """Whether a video at ``uri`` was asked for: it would have been discovered if it were there.

        False where it is excluded, where its folder could not be read, and below folders that were not named.
        """
        key = comparison_key(uri)
        if key in self._files and self.paths.accepts(key.rsplit("/", 1)[-1]):
            return True  # before the loop below: a list may name a hundred thousand files
        if not key.startswith(self._roots):
            return False
        paths = (source_set.relative_path(key) for source_set in self.source_sets)
        return any(below is not None and self.paths.accepts(below) for below in paths)

    def spelled_as(self, uris: Iterable[str]) -> Discovered:
        """The same files under the URIs that a library has for them, where it spells their paths otherwise."""
        spelled = {key: uri for uri in uris if (key := comparison_key(uri)) != uri}
        for uri in uris if spelled else ():
            spelled.pop(uri, None)
        if not spelled:
            return self
        return replace(
            self,
            sources=tuple(_spelled(source, spelled) for source in self.sources),
            unsettled=tuple(replace(file, source=_spelled(file.source, spelled)) for file in self.unsettled),
        )

    @cached_property
    def passed_over(self) -> str | None:
        """How many files of the folders that were named are not taken, by suffix, as one line; None for none."""
        files = {f"{each.root}{path}": path for each in self.source_sets for path in each.passed_over}
        libraries = tuple(file.removesuffix(_LIBRARY_MARK) for file in files if file.endswith(f"/{_LIBRARY_MARK}"))
        counts = Counter(
            suffix(path)
            for file, path in files.items()
            if self.paths.accepts(path) and file not in self._files and not file.startswith(libraries)
        )
        kinds = [f"{count} {kind or 'without a suffix'}" for kind, count in counts.most_common(_MOST_KINDS)]
        rest = counts.total() - sum(count for _, count in counts.most_common(_MOST_KINDS))
        kinds += [f"{rest} of other kinds"] if rest else []
        return f"not taken for videos: {', '.join(kinds)}; name a file to index it" if kinds else None

    @cached_property
    def uris(self) -> frozenset[str]:
        """Of all that is there, files still being written among them."""
        return frozenset(one.uri for one in (*self.sources, *(file.source for file in self.unsettled)))

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(each.named for each in self.source_sets if each.named is not None)

    @cached_property
    def _roots(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.root for each in self.source_sets))


def find_sources(
    names: Sequence[str],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    settle_s: float = 0.0,
) -> Discovered:
    """The videos that ``names`` stand for: files, folders, patterns, s3:// addresses, and ``@FILE`` for a list of them.

    ``include``, ``exclude``: patterns (``patterns.PathFilter``) of paths below what was named. A file of this
    machine that was found by search and is younger than ``settle_s`` seconds, or changes while it is looked at twice,
    is unsettled; one that was named itself is taken at once, and S3 objects are complete when they can be listed.
    SourceError if a list cannot be read or a bucket not be listed, UsageError for a wrong pattern.
    """
    paths = PathFilter(include, exclude)
    source_sets = tuple(_source_sets(names))
    videos: dict[str, FoundVideo] = {}
    for video in (
        video for source_set in source_sets for video in source_set.videos if paths.accepts(video.relative_path)
    ):
        if not (video.uri in videos and video.by_search):
            videos[video.uri] = video  # a file that is named itself is taken at once, also where a search finds it
    examined = [(videos[uri], videos[uri].listed or _examine(uri)) for uri in sorted(videos)]
    local = [source for video, source in examined if video.by_search and video.listed is None]
    unsettled = _unsettled(local, settle_s) if settle_s else {}
    sources = tuple(source for _, source in examined if source.uri not in unsettled)
    return Discovered(sources, tuple(unsettled.values()), source_sets, paths)


def _spelled(source: Source, spelled: Mapping[str, str]) -> Source:
    return replace(source, uri=spelled.get(comparison_key(source.uri), source.uri))


def expect_something(discovered: Discovered, library: Library | None, names: Sequence[str]) -> None:
    """SourceError where one of ``names``, or all of them together, stand for nothing: most likely a slip.

    It is no error if the library has videos from there (they are gone, which is a result), or if a list is empty.
    """
    empty = [source_set for source_set in discovered.source_sets if source_set.empty_reason is not None]
    is_empty = not discovered.sources and not discovered.unsettled
    if not empty and not is_empty:
        return  # without reading the catalog
    uris = [record.uri for record in library.videos(ALL_MODELS)] if library is not None else []
    keys = set(map(comparison_key, uris))
    for source_set in empty:
        if source_set.named not in keys and all(source_set.relative_path(key) is None for key in keys):
            raise SourceError(str(source_set.empty_reason))
    if discovered.source_sets and is_empty and not any(map(discovered.covers, uris)):
        if any(source_set.videos for source_set in discovered.source_sets):
            raise SourceError(f"{', '.join(names)}: --include and --exclude leave none of the videos there")
        way_out = discovered.passed_over or "name a folder with videos, or files"
        raise SourceError(f"{', '.join(names)}: no video there; {way_out}")


def _source_sets(names: Sequence[str]) -> Iterator[SourceSet]:
    for name in names:
        if not name.startswith(LIST_SIGN):
            yield expand(name)
            continue
        for number, line in _lines(name[1:]):
            yield _listed(line, f"{name[1:]}, line {number}")


def _lines(path: str) -> list[tuple[int, str]]:
    """(line number, name) of each source in a list: lines as they are, but for empty ones and # comments."""
    try:
        data = local_path(path).read_bytes()
    except OSError as error:
        raise SourceError(
            f"{LIST_SIGN}{path}: this list of sources cannot be read: {error.strerror or error}"
        ) from error
    lines = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).split("\n")
    numbered = [(number, line.removesuffix("\r")) for number, line in enumerate(lines, 1)]
    return [(number, line) for number, line in numbered if line.strip() and not line.startswith("#")]


def _listed(line: str, origin: str) -> SourceSet:
    if line.startswith(LIST_SIGN):
        raise SourceError(f"{origin}: {line}: a list cannot name another; write ./{line} for a file of that name")
    try:
        source_set = expand(line)
    except SourceError as error:
        raise SourceError(f"{origin}: {error}") from error
    if source_set.empty_reason is None:
        return source_set
    return replace(source_set, empty_reason=f"{origin}: {source_set.empty_reason}")


def _examine(uri: str) -> Source:
    try:
        return stat_source(uri)
    except SourceError:
        return Source(uri, 0, "")


def _unsettled(sources: Sequence[Source], settle_s: float) -> dict[str, Unsettled]:
    """The unsettled ones of local ``sources``, by URI. A file that cannot be examined is not being written."""
    readable = [source for source in sources if source.modified]
    young = {source.uri: file for source in readable if (file := _young(source, settle_s)) is not None}
    others = [source for source in readable if source.uri not in young]
    if others:
        time.sleep(LOOK_AGAIN_S)
    reason = "still being written: it changed while it was examined"
    return young | {source.uri: Unsettled(source, reason) for source in others if _changed(source)}


def _young(source: Source, settle_s: float) -> Unsettled | None:
    """None for a modification time in the future too: a clock that is ahead (a camera's, a file server's) may stay
    ahead for ever, and a file that grows is noticed by the second look, and again after it was read.
    """
    age_s = time.time() - int(source.modified) / 1e9
    if not 0 <= age_s < settle_s:
        return None
    return Unsettled(source, f"still being written: changed {age_s:.0f} s ago")


def _changed(before: Source) -> bool:
    return _examine(before.uri) != before
