"""The end of the process that started a worker."""

import ctypes
import signal
from contextlib import suppress

PR_SET_PDEATHSIG = 1
"""Of Linux's `prctl`."""


def end_with_parent() -> None:
    """Let the kernel end this process when the one that started it is gone, even if killed; Linux alone offers it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
