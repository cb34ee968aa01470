"""``tempo``, killed with -9 at one step of storing."""

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


def killed_tempo(step: str, when: str, nth: int, *arguments: str) -> None:
    """``tempo ARGUMENTS``, in a process of its own: it dies before or after call number ``nth`` of CLASS.METHOD."""
    owner, name = CLASSES[step.split(".", maxsplit=1)[0]], step.split(".")[1]
    setattr(owner, name, killing(getattr(owner, name), when, nth))
    sys.argv[1:] = arguments
    main()
