"""Ends a worker when the process that started it ends."""

import ctypes
import signal
from contextlib import suppress

PR_SET_PDEATHSIG = 1
"""The option of Linux's `prctl` that sets the signal for the end of the parent."""


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends, even if the parent is killed. This works only on Linux."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
