"""Becomes the program that it is given, which then ends with its parent: ``python launcher.py PARENT PROGRAM...``.

For a Linux without ``setpriv`` (``spawn.py``). It imports nothing of this package, so it starts in 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: str, *command: str) -> None:
    """Never returns. ``parent``: the process id of the caller, who may have died before the signal was asked for."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGKILL)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and a program inherits it
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} does not run: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
