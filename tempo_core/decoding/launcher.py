"""Replaces itself by a program that is killed when its parent dies: ``python launcher.py PARENT PROGRAM...``.

For a Linux without ``setpriv`` (``spawn.py``). It imports nothing of this package, so that it starts in 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: str, *command: str) -> None:
    """Never returns. ``parent``: the process id of the caller, which may have died before the signal was set."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGKILL)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the program would inherit that
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} does not run: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
