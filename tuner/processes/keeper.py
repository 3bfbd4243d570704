"""The processes of one worker: found, measured and ended; by itself once the host is dead.

Run as a script it waits for the end of the process that started it and then ends what that one left:
`python keeper.py CONTROL_FOLDER`, with the worker's process ID on stdin, which stays open while the host lives. A
worker ends with its host by itself (`PR_SET_PDEATHSIG`), but its children would not.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "TUNER_PROBE"
"""Variable that holds the control folder; a process that left the worker's session has it, too."""
PATIENCE = 5.0
"""Seconds for killed processes to be gone; one that a driver holds may take longer."""
ENDED = "Z"


def members(control: Path, session: int | None) -> list[int]:
    """The processes of a worker, as Linux shows them in /proc; none are found elsewhere.

    Args:
        control: its control folder.
        session: the worker's process ID, whose session it leads; None: it is not known.
    """
    mark = f"{MARK}={control}".encode()
    others = ((pid, _session(pid)) for pid in _running() if pid != os.getpid())
    return [pid for pid, its_own in others if its_own is not None and (its_own == session or _has(pid, mark))]


def end(control: Path, session: int | None) -> None:
    """Kill the processes of a worker until none is left."""
    limit = time.monotonic() + PATIENCE
    while (found := members(control, session)) and time.monotonic() < limit:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def used_memory(session: int) -> int:
    """Bytes of memory that the processes of a session use: their own and shared, files that they map left out."""
    return sum(_memory(pid) for pid in _running() if _session(pid) == session)


def keep(control: Path) -> None:
    """Wait for the host's end; then end its worker and remove the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = sys.stdin.buffer.read().strip()
    end(control, int(said) if said.isdigit() else None)
    shutil.rmtree(control, ignore_errors=True)


def _running() -> list[int]:
    with suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208  this is polled
    return []


def _session(pid: int) -> int | None:
    """The session of a process that has not ended."""
    with suppress(OSError):
        state, _parent, _group, session, *_ = _text(pid, "stat").rpartition(b")")[2].split()
        return None if state == ENDED.encode() else int(session)
    return None


def _has(pid: int, mark: bytes) -> bool:
    with suppress(OSError):  # another user's, or gone
        return mark in _text(pid, "environ").split(b"\0")
    return False


def _memory(pid: int) -> int:
    with suppress(OSError):
        lines = (line.split() for line in _text(pid, "status").splitlines())
        return sum(int(words[1]) * 1024 for words in lines if words and words[0] in (b"RssAnon:", b"RssShmem:"))
    return 0


def _text(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123  this is polled
        return file.read()


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
