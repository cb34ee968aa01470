"""The stream of a chat completion: server-sent events, each a JSON chunk, within bounds whatever the server sends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import TypeAlias, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from tempo_core.errors import RemoteReaderError

Item = TypeVar("Item")

MOST_LINE_BYTES = 1 << 18
MOST_STREAM_BYTES = 16 << 20  # a chunk is some 300 bytes and mostly one token
_TOO_LONG = "did not end its answer in time. Is the model too slow for so much? Lower --token-budget."


_Taken: TypeAlias = "SimpleQueue[tuple[Item] | RemoteReaderError | None]"  # None: there are no more


class MayPass(RemoteReaderError):
    """Trying again may help, after a rest of ``rest_s`` seconds."""

    def __init__(self, message: str, rest_s: float = 0.0) -> None:
        super().__init__(message)
        self.rest_s = rest_s


class ServedTokens(BaseModel):
    """What the server counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Delta(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    delta: _Delta | None = None
    finish_reason: str | None = None


class Chunk(BaseModel):
    """One event. ``object`` "error" and ``error`` are how servers say that something failed meanwhile."""

    choices: tuple[_Choice, ...] = ()
    usage: ServedTokens | None = None
    object: str | None = None
    error: JsonValue = None

    @property
    def text(self) -> str:
        return "".join(choice.delta.content or "" for choice in self.choices if choice.delta)

    @property
    def is_last(self) -> bool:
        """Whether no text follows, perhaps usage."""
        return any(choice.finish_reason for choice in self.choices)


def chunks(stream: Iterator[bytes]) -> Iterator[Chunk]:
    """Up to the end that the server marks. MayPass where the stream ends before, RemoteReaderError for no chunk."""
    is_whole = False
    for line in _lines(stream):
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        chunk = _chunk(data)
        is_whole = is_whole or chunk.is_last
        yield chunk
    if not is_whole:
        raise MayPass("ended its answer in the middle")


def _chunk(data: bytes) -> Chunk:
    try:
        chunk = Chunk.model_validate_json(data)
    except ValidationError:
        raise RemoteReaderError(f"sent what is no piece of a chat completion. It said: {told(data)}") from None
    if chunk.error is not None or chunk.object == "error":
        raise RemoteReaderError(f"failed while it answered. It said: {told(data)}")
    return chunk


def _lines(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines. RemoteReaderError for a line or a stream that is too long."""
    rest, total = b"", 0
    for block in stream:
        total += len(block)
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > MOST_LINE_BYTES or total > MOST_STREAM_BYTES:
            raise RemoteReaderError("sent more than an answer can be: is it a server of chat completions?")
        yield from lines
    yield rest


def told(said: bytes) -> str:
    """What a server said, on one line."""
    return " ".join(said.decode("utf-8", "replace").split())


def in_time(items: Iterator[Item], item_s: float, until: float) -> Iterator[Item]:
    """The same, taken by a thread, so that no item is waited for longer than ``item_s`` seconds or after ``until``
    (of the monotonic clock), whatever it hangs in. RemoteReaderError where one is late.
    """
    taken: _Taken[Item] = SimpleQueue()
    is_over = threading.Event()
    threading.Thread(target=_take, args=(items, taken, is_over), daemon=True, name="remote-reader").start()
    try:
        while (item := _next(taken, item_s, until)) is not None:
            yield item[0]
    finally:
        is_over.set()


def _take(items: Iterator[Item], taken: _Taken[Item], is_over: threading.Event) -> None:
    """At last None, or the error that ended it: also one that nobody foresaw, whose traceback this thread prints."""
    end: RemoteReaderError | None = RemoteReaderError("could not be asked, by a fault of tempo's own: see above.")
    try:
        for item in items:
            if is_over.is_set():
                return
            taken.put((item,))
        end = None
    except RemoteReaderError as error:
        end = error
    finally:
        taken.put(end)


def _next(taken: _Taken[Item], item_s: float, until: float) -> tuple[Item] | None:
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise RemoteReaderError(_TOO_LONG)
    try:
        item = taken.get(timeout=min(item_s, left_s))
    except Empty:
        silent = f"sent nothing for {item_s:g} s. Is it too busy, or does it hang?"
        raise RemoteReaderError(silent if item_s < left_s else _TOO_LONG) from None
    if isinstance(item, RemoteReaderError):
        raise item
    return item
