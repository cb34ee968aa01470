"""A source read from its bytes to JPEG frames, as a stream of small items: the same generator in one process and as a
Ray task on any node.

The order is fixed: ``Opened``, ``Sampled``, lists of ``KeptSegment``, ``Closed``. ``Closed`` comes after the source was
let go: by then it is known not to have changed meanwhile. An item holds ``ITEM_SEGMENTS`` segments at most (2 MB at
512x256), so memory is bounded by the items under way, whatever the video's length.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage import Source, fetch
from storage.sources.fetch import DEFAULT_MAX_BYTES, FetchedSource
from tempo_core.decoding import SegmentReader, VideoInfo, probe, read_segments
from tempo_core.errors import NoSpace, SourceError
from tempo_core.pixels import encode_jpeg
from tempo_core.sampling import SegmentSpan, segment_spans
from tempo_core.spec import FrameGeometry, IndexSpec

ITEM_SEGMENTS = 8


@dataclass(frozen=True)
class DecodePlan:
    """What every source of a run is decoded to. ``threads``: ffmpeg's, None for its own choice."""

    spec: IndexSpec
    geometry: FrameGeometry
    threads: int | None = None


@dataclass(frozen=True)
class Opened:
    """The source is there, ``sha256`` (hex) of its bytes is the content's id. ``seconds`` it took to fetch and hash."""

    source: Source
    sha256: str
    seconds: float


@dataclass(frozen=True)
class Sampled:
    """The file is a video: its segments, and what was learned of it."""

    spans: tuple[SegmentSpan, ...]
    duration_s: float
    width: int
    height: int
    start_s: float


@dataclass(frozen=True)
class KeptSegment:
    """A segment's frames as JPEG files, and the presentation time of each."""

    index: int
    jpegs: list[bytes]
    times_s: tuple[float, ...]


@dataclass(frozen=True)
class Closed:
    """The end: what a user should know, and ``seconds`` of reading, ffmpeg and JPEG, the taker left out."""

    warnings: tuple[str, ...]
    seconds: float


Item = Opened | Sampled | list[KeptSegment] | Closed


def decode_source(uri: str, plan: DecodePlan) -> Generator[Item, None, None]:
    """Read ``uri`` from begin to end. SourceError, VideoError; closing the generator stops ffmpeg."""
    began = time.monotonic()
    with _fetched(uri) as fetched:
        yield Opened(fetched.source, fetched.sha256, time.monotonic() - began)
        reading = _Timed(_read(fetched.path, plan))
        for item in reading:  # noqa: UP028 - Ray sends into its generators, and `yield from` would pass that on
            yield item
    yield Closed(reading.warnings, reading.seconds)


@contextmanager
def _fetched(uri: str) -> Iterator[FetchedSource]:
    """SourceError where scratch is full: other videos share it, and later there may be room; the library's disk ends a
    run, this does not.
    """
    scratch = Path(tempfile.gettempdir())
    with ExitStack() as stack:
        try:
            fetched = stack.enter_context(fetch(uri, scratch, max_bytes=_most_bytes(uri, scratch)))
        except NoSpace as error:
            raise SourceError(str(error)) from error
        yield fetched


class _Timed(Iterator[Item]):
    """Passes on what is read; ``seconds`` counts the reading, not what the taker does meanwhile."""

    def __init__(self, items: Generator[Item, None, tuple[str, ...]]) -> None:
        self.seconds, self.warnings = 0.0, ()
        self._items = items

    def __next__(self) -> Item:
        began = time.monotonic()
        try:
            return next(self._items)
        except StopIteration as end:
            self.warnings = end.value
            raise
        finally:
            self.seconds += time.monotonic() - began


def _read(path: Path, plan: DecodePlan) -> Generator[Item, None, tuple[str, ...]]:
    """Returns the warnings."""
    info = probe(path)
    with read_segments(path, info, plan.spec, plan.geometry, threads=plan.threads) as reader:
        yield _sampled(info, reader, plan.spec)
        yield from _items(reader, plan.spec.jpeg_quality)
        return (*info.warnings, *reader.warnings)


def _sampled(info: VideoInfo, reader: SegmentReader, spec: IndexSpec) -> Sampled:
    spans = tuple(segment_spans(reader.sampling, spec))
    return Sampled(spans, float(info.duration), info.width, info.height, float(info.start))


def _items(reader: SegmentReader, jpeg_quality: int) -> Iterator[list[KeptSegment]]:
    item: list[KeptSegment] = []
    for segment in reader:
        item.append(KeptSegment(segment.index, encode_jpeg(segment.pixels, jpeg_quality), segment.times_s))
        if len(item) == ITEM_SEGMENTS:
            yield item
            item = []
    if item:
        yield item


def _most_bytes(uri: str, scratch: Path) -> int:
    """Bytes that a source may have: a remote one must fit into most of what is free, a local one stays where it is."""
    return int(0.9 * shutil.disk_usage(scratch).free) if uri.startswith("s3://") else DEFAULT_MAX_BYTES
