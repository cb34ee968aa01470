"""One model, many videos: segments that wait at the same time are encoded in one batch, each for its own video.

A video hands over chunks, a chunk is never split, and its states come back through the chunk's own future, so that
videos cannot be mixed up. Chunks that arrive while a batch is computed make up the next one: no timer, no waiting for
a batch to fill. A video alone is always cut the same way (a batch's size may move the last bit of a state).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tempo_core.errors import NotFinite
from tempo_core.pixels import ENCODED_AT_A_TIME
from tempo_core.spec import StateDtype
from tempo_core.values import FloatArray, SegmentPixels, SegmentState

if TYPE_CHECKING:
    from tempo_core import Checkpoint
    from tempo_core.states import DeviceState

OF_ONE_CHUNK = (RuntimeError, ValueError, NotFinite)  # errors that one chunk of a batch may cause: memory, its numbers


@dataclass(frozen=True, eq=False)
class Encoded:
    """States of a chunk's segments in order; ``features``: float32 [segments, D]; ``seconds`` of the model for them."""

    states: Sequence[SegmentState]
    features: FloatArray
    seconds: float


@dataclass(eq=False)
class _Chunk:
    pixels: Sequence[SegmentPixels]
    encoded: Encoded | None = None
    failed_with_others: bool = False

    @property
    def is_encoded(self) -> bool:
        return self.encoded is not None


@dataclass
class Encoder:
    """The only thread that computes with the model. Close it (or leave a ``with``) when no chunk is under way.

    ``busy_s``: seconds that it has computed so far, whatever became of it.
    """

    checkpoint: Checkpoint
    state_dtype: StateDtype
    busy_s: float = 0.0
    _waiting: deque[_Chunk] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="encode"))

    def submit(self, pixels: Sequence[SegmentPixels]) -> Future[Encoded]:
        """Encode a chunk of at most ``ENCODED_AT_A_TIME`` segments when its turn comes."""
        chunk = _Chunk(pixels)
        with self._lock:
            self._waiting.append(chunk)
        return self._thread.submit(self._turn, chunk)

    def features(self, states: Sequence[SegmentState]) -> Future[FloatArray]:
        """The features, float32 [segments, D], of states that the library has."""
        return self._thread.submit(self._reused, states)

    @property
    def queued_segment_count(self) -> int:
        """Segments that wait for their turn."""
        with self._lock:
            return sum(len(chunk.pixels) for chunk in self._waiting)

    def close(self) -> None:
        """Wait for the batch under way; what waits is dropped."""
        self._thread.shutdown(cancel_futures=True)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _turn(self, chunk: _Chunk) -> Encoded:
        """Encode a chunk, unless it was in an earlier batch. Where a batch fails, its chunks are encoded one by one."""
        if not chunk.is_encoded and len(batch := self._batch(chunk)) > 1:
            try:
                self._encode(batch)
            except OF_ONE_CHUNK:  # encoded by itself, each chunk shows whether it is the cause
                for member in batch:
                    member.failed_with_others = True
        if not chunk.is_encoded:
            self._encode([chunk])
        assert chunk.encoded is not None
        return chunk.encoded

    def _batch(self, first: _Chunk) -> list[_Chunk]:
        """``first`` and the next ones that fit beside it, taken out of the queue."""
        with self._lock:
            if first in self._waiting:
                self._waiting.remove(first)
            batch, room = [first], ENCODED_AT_A_TIME - len(first.pixels)
            while self._waiting and not first.failed_with_others and len(self._waiting[0].pixels) <= room:
                batch.append(self._waiting.popleft())
                room -= len(batch[-1].pixels)
        return batch

    def _encode(self, batch: Sequence[_Chunk]) -> None:
        from tempo_core.states import to_host

        pixels = [segment for chunk in batch for segment in chunk.pixels]
        busy_before_s, done = self.busy_s, 0
        with self._computing():
            on_device = self.checkpoint.router.encode_on_device(pixels, state_dtype=self.state_dtype)
            copied = to_host(on_device)  # while the features are computed from what is still there
            features = self._features(on_device)
            states = copied()
        seconds = self.busy_s - busy_before_s
        for chunk in batch:
            mine = slice(done, done := done + len(chunk.pixels))
            share = seconds * len(chunk.pixels) / len(pixels)
            chunk.encoded = Encoded(states[mine], features[mine], share)

    def _reused(self, states: Sequence[SegmentState]) -> FloatArray:
        with self._computing():
            return self._features(states)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.busy_s += time.monotonic() - began

    def _features(self, states: Sequence[SegmentState] | Sequence[DeviceState]) -> FloatArray:
        return self.checkpoint.featurer.features(states)
