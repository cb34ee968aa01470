"""Prefect's runner, which serves a deployment in this process, with an end that leaves nothing behind.

Left to itself, on ctrl-C it kills the process of a run under way at once: the run stays Running in Prefect, and holds
the place of the next one for minutes. On SIGTERM it leaves its event loop from within, in the middle of anything.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from prefect.runner import Runner


class PoliteRunner(Runner):
    """On ctrl-C and SIGTERM it cancels the runs under way as Prefect's UI would, and ends when they have ended.

    A run has 30 s to end. Asked a second time, it ends at once.
    """

    _main: asyncio.Task[Any] | None = None
    _ending: asyncio.Task[None] | None = None

    async def start(self, run_once: bool = False, webserver: bool | None = None) -> None:
        """Serve until told to end."""
        self._main = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._end)
        await super().start(run_once, webserver)

    def handle_sigterm(self, *_arguments: Any, **_named: Any) -> None:
        """Called by Prefect on SIGTERM, outside of the event loop's order."""
        if self._main is not None:
            self._main.get_loop().call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if self._main is None or not self.started:
            return
        if self._ending is None:
            self._ending = asyncio.create_task(self.astop())
        else:
            self._main.cancel()
