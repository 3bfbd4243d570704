"""How much of this machine a worker may use. Nothing here needs root."""

import os
import resource
from contextlib import suppress
from pathlib import Path

MOST_MEMORY = 32 * 2**30
"""Bytes; more than twice what the largest probe of a registry took (`MEMORY_A_WORKER` in `pool.py`)."""
SHARE = 0.9
"""Part of the machine's memory; with more in use the kernel would begin to end processes."""
LARGEST_FILE = 4 * 2**30
"""Bytes; a probe writes no weights, and a log must not fill the disk."""
CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""The files with a container's memory limit, in version 2 and 1 of control groups."""


def machine_memory() -> int:
    """Bytes of this machine's memory, or of this container's where that is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit for limit in map(_number, CGROUPS) if limit is not None]
    return min([whole, *limits])


def default_memory() -> int:
    """Bytes that one worker with its children may use if the user sets nothing."""
    return min(MOST_MEMORY, int(SHARE * machine_memory()))


def restrict(worker: int) -> None:
    """Limit the harm that a new process can do to others; its children inherit the limits.

    No file grows beyond `LARGEST_FILE`, no core is dumped, and when memory runs out the kernel ends the worker first.
    The address space has no limit: CUDA reserves more of it than any machine has memory.
    """
    with suppress(OSError, AttributeError, ValueError):  # not on this system, or already tighter
        resource.prlimit(worker, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    with suppress(OSError):
        Path(f"/proc/{worker}/oom_score_adj").write_text("1000", encoding="ascii")


def _number(file: Path) -> int | None:
    """The number in a file; None if it is 0, if the file says `max`, or if there is no file."""
    try:
        return int(file.read_text(encoding="ascii")) or None
    except (OSError, ValueError):
        return None
