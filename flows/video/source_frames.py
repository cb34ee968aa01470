"""A source read from its bytes to JPEG frames: ``SourceReading``, in this process or in a Ray task on any node.

What crosses between processes is a stream of small items, in this order: ``Opened``, ``Sampled``, lists of
``JpegSegment``, ``Closed``. Only ``decoded_items`` produces them and only ``SourceReading`` takes them. An item
holds ``ITEM_SEGMENTS`` segments at most (2 MB at 512x256), so memory is bounded by the items under way, whatever the
video's length.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from storage import Source, fetch
from storage.sources.fetch import DEFAULT_MAX_BYTES, FetchedSource
from tempo_core.decoding import SegmentReader, VideoInfo, probe, read_segments
from tempo_core.errors import NoSpace, SourceError
from tempo_core.pixels import encode_jpeg
from tempo_core.sampling import SegmentSpan, segment_spans
from tempo_core.spec import FrameGeometry, IndexSpec

Value = TypeVar("Value")
ITEM_SEGMENTS = 8


@dataclass(frozen=True)
class DecodeSettings:
    """What every source of a run is decoded to. ``threads``: ffmpeg's, None for its own choice."""

    spec: IndexSpec
    geometry: FrameGeometry
    threads: int | None = None


@dataclass(frozen=True)
class Opened:
    """The source is there; ``sha256`` (hex) of its bytes is the video's id. ``seconds`` it took to fetch and hash."""

    source: Source
    sha256: str
    seconds: float


@dataclass(frozen=True)
class Sampled:
    """The file is a video: the segments that will come, and what was learned of it."""

    spans: tuple[SegmentSpan, ...]
    duration_s: float
    width: int
    height: int
    start_s: float


@dataclass(frozen=True)
class JpegSegment:
    """A segment's frames as JPEG files, and the presentation time of each."""

    index: int
    jpegs: list[bytes]
    times_s: tuple[float, ...]


@dataclass(frozen=True)
class Closed:
    """The source was let go of, and did not change meanwhile. ``warnings`` for the user; ``seconds`` of reading, ffmpeg
    and JPEG, without what the taker did in between."""

    warnings: tuple[str, ...]
    seconds: float


Item = Opened | Sampled | list[JpegSegment] | Closed


class SourceReading:
    """A source that is being read: first ``sampled``, then ``segments`` to their end, then ``closed``.

    Each step may raise SourceError or VideoError. ``close`` ends the reading, also half-way.
    """

    def __init__(self, items: Generator[Item, None, None]) -> None:
        """Wait until the source is fetched and hashed: ``opened``."""
        self._items = items
        self._closed: Closed | None = None
        opened = next(items)
        assert isinstance(opened, Opened), opened
        self.opened = opened

    def sampled(self) -> Sampled:
        sampled = next(self._items)
        assert isinstance(sampled, Sampled), sampled
        return sampled

    def segments(self) -> Iterator[JpegSegment]:
        for item in self._items:
            if isinstance(item, list):
                yield from item
            else:
                assert isinstance(item, Closed), item
                self._closed = item

    @property
    def closed(self) -> Closed:
        assert self._closed is not None, "its segments were not read to their end"
        return self._closed

    def close(self) -> None:
        """Stop ffmpeg and let go of the source. ValueError while another thread is reading."""
        self._items.close()


def decode_source(uri: str, settings: DecodeSettings) -> SourceReading:
    """Read ``uri`` in this process."""
    return SourceReading(decoded_items(uri, settings))


def decoded_items(uri: str, settings: DecodeSettings) -> Generator[Item, None, None]:
    """The items of one source. SourceError, VideoError; closing the generator stops ffmpeg."""
    began = time.monotonic()
    with _fetched(uri) as fetched:
        yield Opened(fetched.source, fetched.sha256, time.monotonic() - began)
        began = time.monotonic()
        info = probe(fetched.path)
        with read_segments(fetched.path, info, settings.spec, settings.geometry, threads=settings.threads) as reader:
            segments = _Timed(_batches(reader, settings.spec.jpeg_quality), time.monotonic() - began)
            yield _sampled(info, reader, settings.spec)
            for item in segments:  # noqa: UP028 - Ray sends into its generators, and `yield from` would pass that on
                yield item
    yield Closed((*info.warnings, *reader.warnings), segments.seconds)


@contextmanager
def _fetched(uri: str) -> Iterator[FetchedSource]:
    """SourceError where the scratch folder is full: other videos share it, and later there may be room. NoSpace would
    end the run, as it does for the library's disk."""
    scratch = Path(tempfile.gettempdir())
    with ExitStack() as stack:
        try:
            fetched = stack.enter_context(fetch(uri, scratch, max_bytes=_most_bytes(uri, scratch)))
        except NoSpace as error:
            raise SourceError(str(error)) from error
        yield fetched


class _Timed(Iterator[Value], Generic[Value]):
    """Passes values on; ``seconds`` counts the time to make them, not what the taker does meanwhile."""

    def __init__(self, values: Iterator[Value], seconds: float) -> None:
        self.seconds = seconds
        self._values = values

    def __next__(self) -> Value:
        began = time.monotonic()
        try:
            return next(self._values)
        finally:
            self.seconds += time.monotonic() - began


def _sampled(info: VideoInfo, reader: SegmentReader, spec: IndexSpec) -> Sampled:
    spans = tuple(segment_spans(reader.sampling, spec))
    return Sampled(spans, float(info.duration), info.width, info.height, float(info.start))


def _batches(reader: SegmentReader, jpeg_quality: int) -> Iterator[list[JpegSegment]]:
    segments = (JpegSegment(one.index, encode_jpeg(one.pixels, jpeg_quality), one.times_s) for one in reader)
    while batch := list(islice(segments, ITEM_SEGMENTS)):
        yield batch


def _most_bytes(uri: str, scratch: Path) -> int:
    """Bytes that a source may have: a remote one must fit into most of what is free, a local one is not copied."""
    return int(0.9 * shutil.disk_usage(scratch).free) if uri.startswith("s3://") else DEFAULT_MAX_BYTES
