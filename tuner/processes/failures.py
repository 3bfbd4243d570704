"""Failures of a process that the tool started: of its memory, its disk, its folder."""

import errno
import os
import tempfile
from pathlib import Path

from rules.errors import ErrorKind, TunerError

ROOM = 64 * 1024
"""Bytes; more than most reports take."""


def no_control_folder(error: OSError) -> TunerError:
    """The failure to write the folder through which host and worker exchange files."""
    return TunerError(
        f"The probe cannot write its control folder under {tempfile.gettempdir()}: {error.strerror}.",
        hint="Free some space there or point TMPDIR at another folder.",
        kind=ErrorKind.CONTROL_FOLDER,
    )


def disk_full() -> TunerError:
    """As `no_control_folder`, because there is no space."""
    return no_control_folder(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def out_of_memory(used: int, limit: int) -> TunerError:
    """The failure of a worker that took more memory than it may."""
    return TunerError(
        f"The worker was stopped: it used {_gib(used)} of memory, and its limit is {_gib(limit)}.",
        hint="Raise `tuner probe --memory-limit` where there is more, or take a machine with more memory.",
        kind=ErrorKind.MEMORY,
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def is_full(folder: Path) -> bool:
    """Whether the folder has no space, or no free inode, for a report."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize < ROOM or (state.f_files > 0 and state.f_favail == 0)


def log_hint(tail: str) -> str:
    """A hint with the end of the worker's log."""
    return f"The end of its log:\n{tail}" if tail else "Its log is empty."
