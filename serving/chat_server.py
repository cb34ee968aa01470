"""A server that speaks OpenAI's chat completions, as vLLM, SGLang, llama.cpp and ``transformers serve`` do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

import httpx2

from serving.chat_stream import Chunk, MayPass, ServedTokens, chunks, in_time, told
from tempo_core.errors import RemoteReaderError, UsageError

KEY_VARIABLES = ("TEMPO_READER_KEY", "OPENAI_API_KEY")
EXAMPLE = "http://host:8000/v1#Qwen/Qwen3-VL-8B-Instruct"
MOST_REST_S = 30.0  # that a server may ask for before it is tried again
MOST_SAID_BYTES = 1 << 14
MOST_SHOWN = 600  # characters of an error
Part = Mapping[str, object]  # of a message: text or an image

_ENDS = "Does the address end as that of its API does, often with /v1?"
_WAYS_OUT = {
    400: "If that was too much for it, lower --token-budget.",
    401: f"Give its key in {KEY_VARIABLES[0]}.",
    403: f"Give a key that may use it in {KEY_VARIABLES[0]}.",
    404: f"{_ENDS} Its models are listed there, at /models.",
    413: "Lower --token-budget.",
    422: "If that was too much for it, lower --token-budget.",
    500: "Does it have that model, and memory for so much? Its log may tell.",
}


@dataclass(frozen=True)
class Patience:
    """Seconds that are waited: for a connection, for the next piece, for the whole answer, and before each new try."""

    connect_s: float = 10.0
    piece_s: float = 120.0
    all_s: float = 600.0
    pauses_s: tuple[float, ...] = (1.0, 4.0)


@dataclass(frozen=True)
class Key:
    """What is sent as a bearer token. ``variable``: of the environment, where it was found."""

    variable: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class ChatServer:
    """``url``: of the API, to which /chat/completions is added. ``announce`` is told what is about to be sent."""

    url: str
    model: str
    key: Key | None
    announce: Callable[[str], None] = field(repr=False)
    patience: Patience = Patience()

    @property
    def name(self) -> str:
        return f"{self.model} at {self.url}"

    def answer(self, content: Sequence[Part], max_new_tokens: int) -> Generator[str, None, ServedTokens]:
        """Pieces of the answer to one message of text and images; returns what the server counted.

        RemoteReaderError names the server, what it did and what to do. Until the first piece, what may pass is tried
        again.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_new_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        until = time.monotonic() + self.patience.all_s
        with self._naming():
            first, others = self._begun(json.dumps(body).encode(), until)
            yield first
            return (yield from others)

    def _begun(self, body: bytes, until: float) -> tuple[str, Generator[str, None, ServedTokens]]:
        for pause_s in self.patience.pauses_s:
            try:
                return self._tried(body, until)
            except MayPass as trouble:
                rest_s = max(pause_s, trouble.rest_s)
                if trouble.rest_s > MOST_REST_S or time.monotonic() + rest_s >= until:
                    raise
                time.sleep(rest_s)
        return self._tried(body, until)

    def _tried(self, body: bytes, until: float) -> tuple[str, Generator[str, None, ServedTokens]]:
        pieces = _texts(in_time(self._chunks(body), self.patience.piece_s, until))
        try:
            return next(pieces), pieces
        except StopIteration:
            raise RemoteReaderError(
                "ended its answer without a word. If the model reasons before it answers, turn that off at the server."
            ) from None

    def _chunks(self, body: bytes) -> Iterator[Chunk]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key.secret}"
        url = f"{self.url}/chat/completions"
        try:
            with self._client() as client, client.stream("POST", url, content=body, headers=headers) as response:
                _check(response)
                yield from chunks(response.iter_raw())
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise RemoteReaderError(f"cannot be reached ({error}). Is it running, and is the address right?") from None
        except httpx2.TimeoutException:
            raise RemoteReaderError("takes or sends nothing. Is it too busy, or does it hang?") from None
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            raise MayPass(f"broke the connection off ({error}). Is it whole? Its log may tell.") from None
        except httpx2.RequestError as error:
            raise RemoteReaderError(f"cannot be asked ({error}).") from None

    def _client(self) -> httpx2.Client:
        """Redirects are not followed: the frames go where the user said."""
        timeout = httpx2.Timeout(self.patience.piece_s, connect=self.patience.connect_s)
        try:
            return httpx2.Client(timeout=timeout, follow_redirects=False)
        except (ImportError, ValueError, OSError) as error:  # of HTTPS_PROXY, SSL_CERT_FILE and the like
            raise RemoteReaderError(
                f"cannot be asked through the proxy, or with the certificates, that the environment names ({error})."
            ) from None

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Errors with the server's name, and without the key that it may have repeated."""
        try:
            yield
        except RemoteReaderError as trouble:
            text = f"{self.name} {trouble}"
            shown = text.replace(self.key.secret, "***") if self.key else text
            raise RemoteReaderError(shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}...") from None


def chat_server(address: str, environment: Mapping[str, str], announce: Callable[[str], None]) -> ChatServer:
    """The server at ``URL#MODEL``, with the key of the environment. UsageError for an address that cannot be used."""
    try:
        url = httpx2.URL(address)
        url.host.encode("idna")  # as the system will, to look it up
    except (httpx2.InvalidURL, UnicodeError):
        raise UsageError(f"the reader's address is none that can be read; write it as {EXAMPLE}") from None
    if "@" in address.partition("#")[0] or url.query:  # neither is shown: there may be a key in it
        raise UsageError(
            f"the reader's address has a user, a password or a query in it: leave them out, and give its key in "
            f"{KEY_VARIABLES[0]}"
        )
    if url.scheme not in {"http", "https"} or not url.host or (url.port or 0) > 65535:
        raise UsageError(f"the reader's address {address} is not one of a server over http or https: {EXAMPLE}")
    if not url.fragment:
        raise UsageError(f"the reader's address {address} names no model: write it behind a #, as in {EXAMPLE}")
    return ChatServer(str(url.copy_with(fragment=None)).rstrip("/"), url.fragment, _key(environment), announce)


def _key(environment: Mapping[str, str]) -> Key | None:
    for variable in KEY_VARIABLES:
        secret = environment.get(variable, "").strip()
        if not (secret.isascii() and secret.isprintable()) or " " in secret:
            raise UsageError(f"{variable} holds characters that no key has: set it again")
        if secret:
            return Key(variable, secret)
    return None


def _texts(stream: Iterator[Chunk]) -> Generator[str, None, ServedTokens]:
    """Where the server does not count, a piece counts as a token."""
    served, piece_count = ServedTokens(), 0
    for chunk in stream:
        served = chunk.usage or served
        if chunk.text:
            piece_count += 1
            yield chunk.text
    counted = piece_count if served.completion_tokens is None else served.completion_tokens
    return ServedTokens(prompt_tokens=served.prompt_tokens, completion_tokens=counted)


def _check(response: httpx2.Response) -> None:
    """Nothing where a stream of events follows; else RemoteReaderError, and MayPass where a new try may help."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    status, what = response.status_code, f"answered {response.status_code} {response.reason_phrase}".rstrip()
    if status == 200 and kind == "text/event-stream":
        return
    said = f" It said: {_said(response, kind)}"
    if status == 200:
        raise RemoteReaderError(f"answered with {kind or 'something'}, not with a stream of events. {_ENDS}{said}")
    if 300 <= status < 400:
        to = response.headers.get("Location", "nowhere")
        raise RemoteReaderError(f"{what}: it leads to {to}, where nothing was sent. Name that address if you trust it.")
    if status in {408, 429} or status >= 500:
        rest_s = _rest_s(response.headers.get("Retry-After", ""))
        asked = f" and asks to be left alone for {rest_s:.0f} s" if rest_s else ""
        raise MayPass(f"{what}{asked}. {_WAYS_OUT.get(status, 'Try again later.')}{said}", rest_s)
    raise RemoteReaderError(f"{what}. {_WAYS_OUT.get(status, 'Its log may tell why.')}{said}")


def _said(response: httpx2.Response, kind: str) -> str:
    if kind == "text/html":
        return "an HTML page"
    body = b""
    for block in response.iter_raw():
        body += block
        if len(body) > MOST_SAID_BYTES:
            break
    return told(body) or "nothing"


def _rest_s(retry_after: str) -> float:
    """Seconds of a Retry-After, which may be a date; 0 where it is neither."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
