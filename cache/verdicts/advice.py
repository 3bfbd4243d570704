"""What the errors of the store's file mean, and the way out of each."""

import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import StoreError

BUSY_SECONDS = 30
"""How long a process waits for one write of another; a write takes milliseconds."""

LOGS = ("-wal", "-journal", "-shm")
"""What SQLite may put beside the file, by the end of the name."""
ELSEWHERE = "Move the file away, or name another store with --store."
_PERMISSIONS = "Check the permissions of the file and of its folder, or name another store with --store."
_IN_USE = (
    f"is in use: one process has been writing for {BUSY_SECONDS} seconds",
    "Try again when that process has finished.",
)
DAMAGED = "is damaged, or is not an SQLite database at all"
_MEANINGS = {
    sqlite3.SQLITE_BUSY: _IN_USE,
    sqlite3.SQLITE_PROTOCOL: _IN_USE,
    sqlite3.SQLITE_READONLY: ("cannot be written", _PERMISSIONS),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", _PERMISSIONS),
    sqlite3.SQLITE_FULL: (
        "could not be written: the disk is full. What was stored before is intact",
        "Free some space and try again, or name another store with --store.",
    ),
    sqlite3.SQLITE_IOERR: (
        "could not be read or written: the disk refuses. What was stored before is intact",
        "Check the disk and its free space, then try again, or name another store with --store.",
    ),
    sqlite3.SQLITE_CORRUPT: (DAMAGED, ""),
    sqlite3.SQLITE_NOTADB: (DAMAGED, ""),
}


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors about the store at `path` into `StoreError`."""
    try:
        yield
    except sqlite3.Error as problem:
        raise _explained(path, problem) from problem
    except UnicodeDecodeError as problem:  # Python's sqlite3 could not read SQLite's message, which quotes the damage
        raise StoreError(f"The verdict store {path} {DAMAGED}.", hint=recovery_hint(real_path(path))) from problem
    except OSError as problem:
        raise StoreError(
            f"The verdict store {path} cannot be used: {problem.strerror or problem}.", hint=_PERMISSIONS
        ) from problem


def real_path(path: Path) -> Path:
    """The absolute path behind all links: SQLite puts its logs beside that one."""
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a loop of links


def recovery_hint(file: Path) -> str:
    """What to do about a damaged store; `file` is an absolute path without links."""
    return f"Move the file away: {aside(file)} Or name another store with --store."


def aside(file: Path) -> str:
    """The command that keeps a damaged store, whole and under its own name, in a folder that was not there before."""
    numbers = iter(range(2, 1000))
    folder = Path(f"{file}.damaged")
    while os.path.lexists(folder):
        folder = Path(f"{file}.damaged-{next(numbers)}")
    files = [f"{file}{end}" for end in ("", *LOGS) if os.path.lexists(f"{file}{end}")]
    moved = f"mkdir {shlex.quote(str(folder))} && mv {shlex.join([*files, str(folder)])}"
    return f"`{moved}` keeps it aside, and the next probe begins a new store."


def _explained(path: Path, problem: sqlite3.Error) -> StoreError:
    primary = getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest is the extended code
    meaning, hint = _MEANINGS.get(primary, ("cannot be used", ELSEWHERE))
    return StoreError(
        f"The verdict store {path} {meaning} (SQLite: {problem}).", hint=hint or recovery_hint(real_path(path))
    )
