"""Failures of a process that we started: of its memory, its disk, its folder."""

import errno
import os
import tempfile
from pathlib import Path

from rules.errors import ErrorKind, TunerError

ROOM = 64 * 1024
"""Bytes; more than most reports take."""


def no_control_folder(error: OSError) -> TunerError:
    """The folder through which host and worker speak cannot be written."""
    return TunerError(
        f"The probe cannot write its control folder under {tempfile.gettempdir()}: {error.strerror}.",
        hint="Free some space there or point TMPDIR at another folder.",
        kind=ErrorKind.CONTROL_FOLDER,
    )


def disk_full() -> TunerError:
    """As `no_control_folder`, for want of space."""
    return no_control_folder(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def out_of_memory(used: int, limit: int) -> TunerError:
    """A worker that took more memory than it may."""
    return TunerError(
        f"The worker was stopped: it used {_gib(used)} of memory, and its limit is {_gib(limit)}.",
        hint="Raise `tuner probe --memory-limit` where there is more, or take a machine with more memory.",
        kind=ErrorKind.MEMORY,
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def is_full(folder: Path) -> bool:
    """Whether a report could not be written there, for want of space or, where the file system counts them, inodes."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize < ROOM or (state.f_files > 0 and state.f_favail == 0)


def log_hint(tail: str) -> str:
    """The end of the worker's log, introduced."""
    return f"The end of its log:\n{tail}" if tail else "Its log is empty."
