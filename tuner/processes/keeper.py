"""Finds, measures and ends the processes of one worker.

As a script, `python keeper.py CONTROL_FOLDER`, it waits for the end of its host, the process that started it, and then
ends the worker's processes. It reads the worker's process ID from stdin, which stays open while the host lives. A
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
"""Variable that holds the control folder; a process that left the worker's session still has it."""
PATIENCE = 5.0
"""Seconds to wait for killed processes to end; a process that waits for a driver may take longer."""
ENDED = "Z"


def members(control: Path, session: int | None) -> list[int]:
    """The processes of a worker, as Linux shows them in /proc; none on other systems.

    Args:
        control: the worker's control folder.
        session: the worker's process ID, which is also the ID of its session; None: it is not known.
    """
    mark = f"{MARK}={control}".encode()
    return [pid for pid in _running() if pid != os.getpid() and _belongs(pid, session, mark)]


def end(control: Path, session: int | None) -> None:
    """Kill the processes of a worker until all are gone."""
    limit = time.monotonic() + PATIENCE
    while (pids := members(control, session)) and time.monotonic() < limit:
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def used_memory(session: int) -> int:
    """Bytes of memory that the processes of a session use: their own and shared memory, without mapped files."""
    return sum(_memory(pid) for pid in _running() if _session(pid) == session)


def keep(control: Path) -> None:
    """Wait until the host ends; then end its worker and remove the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    worker = sys.stdin.buffer.read().strip()
    end(control, int(worker) if worker.isdigit() else None)
    shutil.rmtree(control, ignore_errors=True)


def _running() -> list[int]:
    with suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208  this is polled
    return []


def _belongs(pid: int, session: int | None, mark: bytes) -> bool:
    """Whether a process that has not ended is in the session, or has the mark."""
    own_session = _session(pid)
    return own_session is not None and (own_session == session or _has(pid, mark))


def _session(pid: int) -> int | None:
    """The session of a process that has not ended."""
    with suppress(OSError):
        state, _parent, _group, session, *_ = _text(pid, "stat").rpartition(b")")[2].split()
        return None if state == ENDED.encode() else int(session)
    return None


def _has(pid: int, mark: bytes) -> bool:
    with suppress(OSError):  # another user's, or it ended
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
