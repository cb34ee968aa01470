"""``tempo ARGUMENTS...``, killed with -9 at one step of storing.

    python -m tests.support.killed_tempo CLASS.METHOD WHEN NTH ARGUMENTS...

WHEN is ``before`` or ``after`` the NTH call of a method of the writer or the video writer.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from flows.cli import main
from storage.video_writer import VideoWriter
from storage.writer import Writer

CLASSES = {"VideoWriter": VideoWriter, "Writer": Writer}


def killing(method: Callable[..., Any], when: str, nth: int) -> Callable[..., Any]:
    calls = 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*arguments, **named)
        if calls == nth and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


if __name__ == "__main__":
    step, when, nth = sys.argv[1:4]
    owner, name = CLASSES[step.split(".")[0]], step.split(".")[1]
    setattr(owner, name, killing(getattr(owner, name), when, int(nth)))
    sys.argv[1:] = sys.argv[4:]
    main()
