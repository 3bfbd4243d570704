"""How much of this machine a worker may take. None of it needs root."""

import os
import resource
from contextlib import suppress
from pathlib import Path

MOST_MEMORY = 32 * 2**30
"""Bytes; more than twice what the largest probe of a registry took (`MEMORY_A_WORKER` in `pool.py`)."""
SHARE = 0.9
"""Of the machine's memory; beyond it the kernel would begin to end processes."""
LARGEST_FILE = 4 * 2**30
"""Bytes; a probe writes no weights, and a log must not fill the disk."""
CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container finds its memory limit, in version 2 and 1."""


def machine_memory() -> int:
    """Bytes of this machine's memory, or of this container's where that is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([whole, *(limit for file in CGROUPS if (limit := _number(file)))])


def default_memory() -> int:
    """Bytes that one worker with its children may use where the user sets nothing."""
    return min(MOST_MEMORY, int(SHARE * machine_memory()))


def restrict(worker: int) -> None:
    """Limit what a process that was just started can do to others; its children inherit it.

    The address space is left alone: CUDA reserves more of it than any machine has memory. No file grows beyond
    `LARGEST_FILE`, no core is dumped, and when memory runs out the kernel ends the worker before anybody else.
    """
    with suppress(OSError, AttributeError, ValueError):  # not on this system, or already tighter
        resource.prlimit(worker, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    with suppress(OSError):
        Path(f"/proc/{worker}/oom_score_adj").write_text("1000", encoding="ascii")


def _number(file: Path) -> int:
    """The number in a file; 0 where there is none, or the word `max`."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
