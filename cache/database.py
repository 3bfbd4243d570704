"""The SQLite file under the verdict store: how it is opened and read, and what its errors mean."""

import os
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from cache.errors import StoreError
from cache.filesystem import network_type
from cache.schema import SCHEMA, make, schema_of, upgrade

BUSY_SECONDS = 30
"""How long one process waits for another's write; a write takes milliseconds."""

_MAGIC = b"SQLite format 3\0"
_FORMAT = slice(18, 19)
"""Where the file's header says how it is written: 1 with a rollback journal, 2 with a write-ahead log."""
_WAL = b"\2"
_LOGS = ("-wal", "-journal", "-shm")
_TICK = 20_000_000
"""Nanoseconds; the kernel's clock stamps files in steps of up to 10 ms."""
_ELSEWHERE = "Move the file away, or name another store with --store."
_PERMISSIONS = "Check the permissions of the file and of its folder, or name another store with --store."
_IN_USE = (
    f"is in use: another process has been writing for {BUSY_SECONDS} seconds",
    "Try again when that process has finished.",
)
_DAMAGED = ("is damaged", "")
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
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}


class Found(NamedTuple):
    """What one SELECT gave, and the schema of the file it was asked of."""

    schema: int
    rows: list[tuple[Any, ...]]


def read(path: Path, query: str, *values: str) -> Found:
    """Rows of one SELECT, texts as bytes; none if the file is missing, which is not made.

    Nothing is written, so that a folder that cannot be written can be read.

    Raises:
        StoreError: the file is no store of a schema that is known here, or cannot be read.
    """
    with reported(path):
        file = real_path(path)
        state = _settled(file)
        if state is None:
            _require_no_logs(path, file)
            return Found(SCHEMA, [])
        with_log = _require_sqlite(path, file)
        return _read_existing(path, file, state if with_log else None, query, values)


def create(file: Path) -> None:
    """Make an empty store unless there is one: complete from its first moment, whoever else is making it.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    if file.exists():
        return
    from tempfile import TemporaryDirectory  # noqa: PLC0415  only the first write of all needs it

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".new-store-", dir=file.parent) as folder:
        blank = Path(folder, file.name)
        with closing(connect_to_write(blank, "rwc")) as connection, connection:
            make(connection)
        with suppress(FileExistsError):  # a link, unlike a rename, never replaces the store of a faster process
            os.link(blank, file)
    _sync_folder(file.parent)


def connect_to_write(file: Path, mode: str = "rw") -> sqlite3.Connection:
    """Open an absolute path for writing, with the journal that its file system allows.

    A write-ahead log needs memory that all its users share, which several machines do not have.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    connection = connect(file, f"mode={mode}")
    try:
        connection.execute("PRAGMA synchronous=EXTRA")  # with a rollback journal its removal is synced as well
        connection.execute(f"PRAGMA journal_mode={journal_mode(file)}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def journal_mode(file: Path) -> str:
    """`WAL`, or `DELETE` on a network file system."""
    return "WAL" if network_type(file) is None else "DELETE"


def bring_up_to_date(path: Path, connection: sqlite3.Connection) -> None:
    """Upgrade the store in a transaction that the caller has begun, and ends.

    Raises:
        StoreError: it is no store of a schema that is known here.
        sqlite3.Error: it cannot be written.
    """
    upgrade(connection, _required_schema(path, connection))


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


def _settled(file: Path) -> _State | None:
    """The file's state, taken when a later write is sure to get another time."""
    state = _State.of(file)
    if state is not None and 0 <= time.time_ns() - state.modified < _TICK:
        time.sleep(_TICK / 1e9)
        return _State.of(file)
    return state


def _require_no_logs(path: Path, file: Path) -> None:
    """Refuse a log without its store: SQLite would write it over whatever store is made there next."""
    logs = [f"{file}{end}" for end in _LOGS[:2] if _size(f"{file}{end}")]
    if logs and not file.exists():  # it may have been made in this moment
        raise StoreError(
            f"The verdict store {path} is gone, but a log of it is still there: {logs[0]}.",
            hint=f"Put the file back beside its log; or, if it is lost, {_aside(file)}",
        )


def _require_sqlite(path: Path, file: Path) -> bool:
    """Whether the file is written with a write-ahead log."""
    if not S_ISREG(file.stat().st_mode):
        raise StoreError(f"The verdict store {path} is no file.", hint="Name a file with --store.")
    with file.open("rb") as stream:
        head = stream.read(_FORMAT.stop)
    if not head.startswith(_MAGIC):
        raise StoreError(f"{path} is no verdict store: it is no SQLite database.", hint=_way_out(file))
    return head[_FORMAT] == _WAL


def _read_existing(path: Path, file: Path, before: _State | None, query: str, values: tuple[str, ...]) -> Found:
    """Read as an unchanging file when no log lies beside it, else as SQLite's readers do.

    An ordinary reader of a WAL file makes two files beside it, leaves them there, and fails where it may not. The
    short cut takes no locks: what it read counts only if nobody wrote meanwhile. A file with a rollback journal is
    read under locks, which need nothing beside it, and which make another machine's writes visible.

    Args:
        path: as the user named it.
        file: the same without links.
        before: the state of a file with a write-ahead log; None for one with a rollback journal.
        query: one SELECT.
        values: its parameters.
    """
    if before is not None and before.pending == 0:
        try:
            rows = _select(path, file, "immutable=1", query, values)
        except sqlite3.DatabaseError:
            if _State.of(file) == before:
                raise
        else:
            if _State.of(file) == before:
                return rows
    try:
        return _select(path, file, "mode=ro", query, values)
    except sqlite3.OperationalError as problem:
        if problem.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
    return _select(path, file, "mode=rw", query, values)  # a writer was killed: opened so, SQLite undoes its half


def _select(path: Path, file: Path, options: str, query: str, values: tuple[str, ...]) -> Found:
    with closing(connect(file, options)) as connection:
        schema = _required_schema(path, connection)
        return Found(schema, connection.execute(query, values).fetchall())


def _required_schema(path: Path, connection: sqlite3.Connection) -> int:
    found = schema_of(connection)
    if found is None:
        raise StoreError(f"{path} is an SQLite database, but no verdict store.", hint=_ELSEWHERE)
    if found > SCHEMA:
        raise StoreError(
            f"The verdict store {path} was written by a newer release: its schema is {found}, this one reads {SCHEMA}.",
            hint="Upgrade vllm-moe-tuner, or name another store with --store.",
        )
    return found


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _way_out(file: Path) -> str:
    return f"Move the file away: {_aside(file)} Or name another store with --store."


def _aside(file: Path) -> str:
    """The command that keeps a damaged store, whole and under its own name, in a folder that was not there before."""
    numbers = iter(range(2, 1000))
    folder = Path(f"{file}.damaged")
    while os.path.lexists(folder):
        folder = Path(f"{file}.damaged-{next(numbers)}")
    files = [f"{file}{end}" for end in ("", *_LOGS) if os.path.lexists(f"{file}{end}")]
    moved = f"mkdir {shlex.quote(str(folder))} && mv {shlex.join([*files, str(folder)])}"
    return f"`{moved}` keeps it aside, and the next probe begins a new store."


def _explained(path: Path, problem: sqlite3.Error) -> StoreError:
    primary = getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest is the extended code
    meaning, hint = _MEANINGS.get(primary, ("cannot be used", _ELSEWHERE))
    return StoreError(
        f"The verdict store {path} {meaning} (SQLite: {problem}).", hint=hint or _way_out(real_path(path))
    )
