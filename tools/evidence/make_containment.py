"""Kills probes at random moments, and counts the processes and folders that are left.

    .venv/bin/python -m tools.evidence.make_containment [KILLS]

Each round starts a host whose worker has two children, one in a session of its own, and kills the host, the worker, or
host and keeper together with SIGKILL after a random time of up to 0.6 s. Once another probe begins, none of these
processes may run, and none of their folders may be left. A script stands in for the worker, as in the tests.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from subprocess import DEVNULL, Popen

from test_probe_containment import HOST, STAND_IN

from tuner.processes.control_folder import PREFIX, remove_abandoned

LONGEST = 0.6
"""Seconds; a worker and its children are up after about 0.2."""
PATIENCE = 20.0
STARTING = 0.5
"""Seconds; the next probe has to start first. A worker between its fork and its exec still holds the folder's lock."""


def running(scratch: Path) -> list[int]:
    """Processes that name the scratch folder in their command line or environment, this one left out."""
    pids = []
    for entry in Path("/proc").iterdir():
        try:
            content = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and str(scratch).encode() in content:
            pids.append(int(entry.name))
    return pids


def keepers(scratch: Path) -> list[int]:
    """The keepers among the processes of `running`."""
    return [pid for pid in running(scratch) if b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def kill(pids: list[int]) -> None:
    """Send SIGKILL to each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_host(victim: str, folder: Path, scratch: Path) -> dict[str, int]:
    """Kill a host at a random moment, and count what is left of it."""
    command = [sys.executable, "-c", HOST, str(scratch), str(folder / "worker"), str(folder / "note")]
    host = Popen(command, stderr=DEVNULL)
    time.sleep(random.uniform(0.05, LONGEST))  # noqa: S311  no secret
    workers = [pid for pid in running(scratch) if pid != host.pid and pid not in keepers(scratch)]
    began = bool(workers)
    if victim == "host and keeper":
        kill([*keepers(scratch), host.pid])
    elif victim == "worker" and began:
        kill(workers[:1])
    else:
        kill([host.pid])
    host.wait(PATIENCE)
    if victim != "host and keeper":
        settle(scratch)
    time.sleep(STARTING)
    waiting = len(list(scratch.glob(f"{PREFIX}*")))
    remove_abandoned()  # what the next probe does first
    settle(scratch)
    remains = {"processes": len(running(scratch)), "folders": len(list(scratch.glob(f"{PREFIX}*")))}
    return {"began": began, "waiting": waiting, **remains}


def settle(scratch: Path) -> None:
    """Wait until no process is left, or for some seconds: what was killed as it started takes a moment to notice."""
    end = time.monotonic() + PATIENCE
    while running(scratch) and time.monotonic() < end:
        time.sleep(0.02)


def main(kills: int) -> None:
    """Print a line for each kind of victim."""
    for victim in ("host", "worker", "host and keeper"):
        counts: Counter[str] = Counter()
        for _ in range(kills // 3):
            with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as scratch:
                tempfile.tempdir = scratch
                (Path(folder) / "worker").write_text(STAND_IN)
                counts.update(kill_host(victim, Path(folder), Path(scratch)))
                tempfile.tempdir = None
        print(f"{victim}: {kills // 3} kills, {counts['began']} with a worker up; ", end="")
        print(f"{counts['waiting']} folders waited for the next probe; after it ", end="")
        print(f"{counts['processes']} processes and {counts['folders']} folders are left", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
