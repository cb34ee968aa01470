"""Which way of reading goes with a model, or with a server that answers instead of it."""

from __future__ import annotations

from serving.chat_server import ChatServer
from serving.memory_tokens import MemoryTokens
from serving.reading import ReadingMaker
from serving.remote_frames import RemoteFrames
from serving.restorer import Restorer
from serving.visual_tokens import VisualTokens
from storage import Library
from tempo_core.checkpoint_parts import Checkpoint
from tempo_core.stock_checkpoint import StockCheckpoint
from tempo_core.tempo_checkpoint import TempoCheckpoint


def reading_maker(
    checkpoint: Checkpoint, library: Library, restorer: Restorer, server: ChatServer | None
) -> ReadingMaker:
    """The server's, else the one of the checkpoint's family."""
    if server is not None:
        return RemoteFrames(restorer.router, library, server, restorer.disk)
    match checkpoint:
        case TempoCheckpoint():
            return MemoryTokens(checkpoint, restorer)
        case StockCheckpoint():
            return VisualTokens(checkpoint, restorer.states, restorer.disk)
    raise TypeError(f"no reading of a {type(checkpoint).__name__}")
