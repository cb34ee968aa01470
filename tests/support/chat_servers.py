"""A server of chat completions over real HTTP, which does what a test says, well or ill.

``read_and_answer`` is for real: transformers alone runs the golden base checkpoint on the messages that it is sent.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOST = "127.0.0.1"
Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"


@dataclass
class Request:
    """What a server was asked."""

    path: str
    headers: dict[str, str]
    body: Json


@dataclass
class Running:
    """Where it is, and what it was asked so far. ``is_over`` is set when it ends."""

    url: str
    requests: list[Request] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)


class Exchange:
    """One request, and ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, request: Request, running: Running) -> None:
        self._handler, self.request, self.running = handler, request, running

    def head(self, status: int, kind: str, **headers: str) -> None:
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()

    def send(self, data: bytes) -> None:
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def reset(self) -> None:
        """The connection breaks, as when a server is killed."""
        connection = self._handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


Answering = Callable[[Exchange], None]


def event(text: str | None = None, finish: str | None = None, **fields: Any) -> bytes:
    chunk: Json = {"object": "chat.completion.chunk", **fields}
    if text is not None or finish is not None:
        chunk["choices"] = [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def stream(*events: bytes) -> Answering:
    """Server-sent events, then the connection is closed."""

    def answer(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream; charset=utf-8")
        for one in events:
            exchange.send(one)

    return answer


def status(code: int, body: str = "", kind: str = "application/json", **headers: str) -> Answering:
    def answer(exchange: Exchange) -> None:
        exchange.head(code, kind, **headers)
        exchange.send(body.encode())

    return answer


GOOD = stream(event("It "), event("opens."), event("", finish="stop"), DONE)


@contextmanager
def chat_server(*answers: Answering) -> Iterator[Running]:
    """The requests are answered in turn, from the last one on always alike."""
    turns = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            running.requests.append(request)
            answer = turns.pop(0) if len(turns) > 1 else turns[0]
            answer(Exchange(self, request, running))

        def finish(self) -> None:
            with suppress(OSError):  # the client is gone
                super().finish()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server has
            """Quiet."""

    server = _Server((HOST, 0), Handler)
    running = Running(f"http://{HOST}:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up leaves no traceback in what another test reads."""


def read_and_answer(exchange: Exchange) -> None:
    """The stock model's greedy answer, token by token, with what it counted."""
    body = exchange.request.body
    prompt_tokens, ids = generated(body["messages"], body["max_tokens"])
    exchange.head(200, "text/event-stream")
    exchange.send(event(""))
    from tests.support.stock_model import tokenizer

    shown = ""
    for count in range(1, len(ids) + 1):
        text = tokenizer().decode(ids[:count], skip_special_tokens=True)
        if count == len(ids) or not text.endswith("\ufffd"):
            exchange.send(event(text[len(shown) :]))
            shown = text
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(ids), "total_tokens": prompt_tokens + len(ids)}
    exchange.send(event("", finish="stop"))
    exchange.send(event(choices=[], usage=usage))
    exchange.send(DONE)


def generated(messages: list[Json], max_new_tokens: int) -> tuple[int, list[int]]:
    """(prompt tokens, token ids of the answer without its end) by transformers' template, processor and model."""
    import torch
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from tests.support.golden_cases import BASE
    from tests.support.stock_model import stock_model, tokenizer

    processor = Qwen2VLImageProcessorPil.from_pretrained(BASE, size={"shortest_edge": 1024, "longest_edge": 1 << 24})
    pictures = processor(images=_pictures(messages), return_tensors="pt")
    text = tokenizer().apply_chat_template(_seen(messages), tokenize=False, add_generation_prompt=True)
    head, *pieces = text.split("<|image_pad|>")
    counts = [int(grid.prod()) // 4 for grid in pictures["image_grid_thw"]]
    text = head + "".join("<|image_pad|>" * count + piece for count, piece in zip(counts, pieces, strict=True))
    ids = torch.tensor([tokenizer().encode(text, add_special_tokens=False)])
    is_image = ids == tokenizer().convert_tokens_to_ids("<|image_pad|>")
    out = stock_model().generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=is_image.long(),
        **pictures,
        max_new_tokens=max_new_tokens,
        do_sample=False,
    )
    answer = out[0, ids.shape[1] :].tolist()
    stop = tokenizer().convert_tokens_to_ids("<|im_end|>")
    return ids.shape[1], answer[: answer.index(stop)] if stop in answer else answer


def _pictures(messages: list[Json]) -> list[Any]:
    from PIL import Image

    urls = [part["image_url"]["url"] for one in messages for part in one["content"] if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))) for url in urls]


def _seen(messages: list[Json]) -> list[Json]:
    """Messages as a chat template takes them."""
    return [
        {
            "role": one["role"],
            "content": [{"type": "image"} if "image_url" in part else part for part in one["content"]],
        }
        for one in messages
    ]
