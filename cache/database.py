"""The SQLite file under the verdict store: how it is opened and read, and what its errors mean."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from cache.errors import StoreError

SCHEMA = 1
"""Version of the records in the file; a file of a higher one is refused."""

TABLE = "verdicts"
"""Name of the one table: sqlitedict's layout, `key TEXT PRIMARY KEY, value BLOB`."""

BUSY_SECONDS = 30
"""How long one process waits for another's write; a write takes milliseconds."""

_MAGIC = b"SQLite format 3\0"
_ELSEWHERE = "Move the file away, or name another store with --store."
_PERMISSIONS = "Check the permissions of the file and of its folder, or name another store with --store."
_MEANINGS = {
    sqlite3.SQLITE_BUSY: (
        f"is in use: another process has been writing for {BUSY_SECONDS} seconds",
        "Try again when that process has finished.",
    ),
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
    sqlite3.SQLITE_CORRUPT: ("is damaged", _ELSEWHERE),
    sqlite3.SQLITE_NOTADB: ("is damaged", _ELSEWHERE),
}


def read(path: Path, query: str, *values: str) -> list[tuple[Any, ...]]:
    """Rows of one SELECT, texts as bytes; none if the file is missing, which is not made.

    Nothing is written, so that a folder that cannot be written can be read.

    Raises:
        StoreError: the file is no store of this schema, or cannot be read.
    """
    with reported(path):
        file = real_path(path)
        state = _State.of(file)
        if state is None:
            return []
        _require_sqlite(path, file)
        return _read_existing(path, file, state, query, values)


def real_path(path: Path) -> Path:
    """The absolute path behind all links: SQLite puts its logs beside that one."""
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a loop of links


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors about the store at `path` into `StoreError`."""
    try:
        yield
    except sqlite3.Error as problem:
        raise _explained(path, problem) from problem
    except OSError as problem:
        raise StoreError(
            f"The verdict store {path} cannot be used: {problem.strerror or problem}.", hint=_PERMISSIONS
        ) from problem


def connect(file: Path, options: str) -> sqlite3.Connection:
    """Open an absolute path with options of SQLite's URI syntax, such as `mode=rw`; texts come as bytes."""
    connection = sqlite3.connect(f"{file.as_uri()}?{options}", uri=True, timeout=BUSY_SECONDS)
    # A damaged text would raise while a row is fetched; as bytes it fails where one row is decoded.
    connection.text_factory = bytes
    return connection


class _State(NamedTuple):
    """Enough of the file's state to see that somebody wrote to it; sizes in bytes, time in nanoseconds."""

    inode: int
    size: int
    modified: int
    pending: int
    """Size of the logs beside the file: 0 means that everything is in the file itself."""

    @classmethod
    def of(cls, file: Path) -> "_State | None":
        try:
            found = file.stat()
        except FileNotFoundError:
            return None
        pending = _size(f"{file}-wal") + _size(f"{file}-journal")
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, pending)


def _size(name: str) -> int:
    try:
        return Path(name).stat().st_size
    except FileNotFoundError:
        return 0


def _require_sqlite(path: Path, file: Path) -> None:
    if not S_ISREG(file.stat().st_mode):
        raise StoreError(f"The verdict store {path} is no file.", hint="Name a file with --store.")
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise StoreError(f"{path} is no verdict store: it is no SQLite database.", hint=_ELSEWHERE)


def _read_existing(
    path: Path, file: Path, before: _State, query: str, values: tuple[str, ...]
) -> list[tuple[Any, ...]]:
    """Read as an unchanging file when no log lies beside it, else as SQLite's readers do.

    An ordinary reader of a WAL file makes two files beside it, leaves them there, and fails where it may not. The
    short cut takes no locks: what it read counts only if nobody wrote meanwhile.
    """
    if before.pending == 0:
        try:
            rows = _select(path, file, "immutable=1", query, values)
        except sqlite3.DatabaseError:
            if _State.of(file) == before:
                raise
        else:
            if _State.of(file) == before:
                return rows
    return _select(path, file, "mode=ro", query, values)


def _select(path: Path, file: Path, options: str, query: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
    with closing(connect(file, options)) as connection:
        _require_schema(path, connection)
        return connection.execute(query, values).fetchall()


def _require_schema(path: Path, connection: sqlite3.Connection) -> None:
    tables = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (TABLE,)).fetchall()
    rows = connection.execute(f"SELECT value FROM {TABLE} WHERE key = 'schema'").fetchall() if tables else []  # noqa: S608  a constant
    found = _schema_number(rows[0][0]) if rows else None
    if found is None or found < 1:
        raise StoreError(f"{path} is an SQLite database, but no verdict store.", hint=_ELSEWHERE)
    if found > SCHEMA:
        raise StoreError(
            f"The verdict store {path} was written by a newer release: its schema is {found}, this one reads {SCHEMA}.",
            hint="Upgrade vllm-moe-tuner, or name another store with --store.",
        )


def _schema_number(value: object) -> int | None:
    try:
        number = json.loads(value) if isinstance(value, bytes) else None
    except ValueError:
        return None
    return number if type(number) is int else None


def _explained(path: Path, problem: sqlite3.Error) -> StoreError:
    primary = getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest is the extended code
    meaning, hint = _MEANINGS.get(primary, ("cannot be used", _ELSEWHERE))
    return StoreError(f"The verdict store {path} {meaning} (SQLite: {problem}).", hint=hint)
