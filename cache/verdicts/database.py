"""The SQLite file under the verdict store: how it is made, opened and read."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple, Self, TypeVar

from cache.errors import StoreError
from cache.filesystem import network_type
from cache.verdicts.advice import BUSY_SECONDS, DAMAGED, ELSEWHERE, LOGS, aside, real_path, recovery_hint, reported
from cache.verdicts.schema import SCHEMA, make, schema_of, upgrade

Result = TypeVar("Result")
_TICK = 20_000_000
"""Nanoseconds; the kernel's clock stamps files in steps of up to 10 ms."""

_DRAFTS = ".new-store-"
"""How the folders begin in which `create` makes a store."""
_ATTEMPTS = 3


class Selected(NamedTuple):
    """What one SELECT gave, and the schema of the file it was asked of."""

    schema: int
    rows: list[tuple[Any, ...]]


def read(path: Path, query: str, *values: str) -> Selected:
    """Rows of one SELECT, texts as bytes; none if the file is missing, which is not made.

    Nothing is written, so that a folder that cannot be written can be read.

    Raises:
        StoreError: the file is not a store of a schema that is known here, or cannot be read.
    """
    with reported(path):
        file = real_path(path)
        if not _is_there(file):
            _require_no_logs(path, file)
            return Selected(SCHEMA, [])
        _require_content(path, file)
        if network_type(file) is None:
            return _read_here(path, file, query, values)
        return _read_shared(path, file, query, values)


def require_store(path: Path) -> None:
    """Refuse what is not a store of a known schema, before a write opens it; a missing file is none to refuse.

    Raises:
        StoreError: as `read`.
    """
    with suppress(StoreError), reported(path):
        file = real_path(path)
        _require_content(path, file)
        _select(path, file, "immutable=1", "SELECT 1", ())
        return
    read(path, "SELECT 1")  # says what is wrong; or the file was only just being written, for which it waits


def create(file: Path) -> None:
    """Make an empty store unless there is one: complete from its first moment, whoever else is making it.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    if file.exists():
        return
    from tempfile import TemporaryDirectory  # noqa: PLC0415  only the first write of all needs it

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=_DRAFTS, dir=file.parent) as folder:
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
    """Upgrade a store of an earlier schema, whole or not at all; nobody else can write meanwhile.

    Raises:
        StoreError: it is not a store of a schema that is known here.
        sqlite3.Error: it cannot be written.
    """
    if _required_schema(path, connection) < SCHEMA:
        with connection:  # commits, or rolls back
            connection.execute("BEGIN IMMEDIATE")
            upgrade(connection, _required_schema(path, connection))


def connect(file: Path, options: str) -> sqlite3.Connection:
    """Open an absolute path with options of SQLite's URI syntax, such as `mode=rw`; texts come as bytes."""
    connection = sqlite3.connect(f"{file.as_uri()}?{options}", uri=True, timeout=BUSY_SECONDS)
    # A damaged text would raise while a row is fetched; as bytes it fails where one row is decoded.
    connection.text_factory = bytes
    return connection


def patiently(file: Path, attempt: Callable[[], Result]) -> Result:
    """Try again what found the file locked, as long as others get on with it: SQLite lets nobody stand in line.

    Raises:
        sqlite3.Error: of the attempt; of one that found the file locked, if nobody wrote meanwhile.
    """
    while True:
        before = _State.of(file)
        try:
            return attempt()
        except sqlite3.OperationalError as problem:
            locked = problem.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)
            if not locked or _State.of(file) == before:
                raise


class _State(NamedTuple):
    """Enough of the file's state to see that somebody wrote to it; sizes in bytes, time in nanoseconds."""

    inode: int
    size: int
    modified: int
    pending: int
    """Size of the logs beside the file: 0 means that everything is in the file itself."""

    @classmethod
    def of(cls, file: Path) -> Self:
        status = file.stat()
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, _pending(file))

    @classmethod
    def settled(cls, file: Path) -> Self:
        """The state, taken when a later write is sure to get another time."""
        state = cls.of(file)
        if state.pending == 0 and 0 <= time.time_ns() - state.modified < _TICK:
            time.sleep(_TICK / 1e9)
            return cls.of(file)
        return state


class Unwritten(NamedTuple):
    """A store at a moment when nobody wrote. A later look that gives the same means that nobody wrote in between."""

    state: _State
    file: Path
    """The real path, beside which the logs lie."""


def unwritten(path: Path) -> Unwritten | None:
    """The store as it is now; None if it is being written, was a moment ago, or lies on a network file system.

    Also None if it cannot be looked at: whoever reads it is told why.
    """
    try:
        file = real_path(path)
        state = _State.of(file)
        is_local = network_type(file) is None
    except OSError:
        return None
    is_recent = 0 <= time.time_ns() - state.modified < _TICK
    return Unwritten(state, file) if is_local and not state.pending and not is_recent else None


def is_still(path: Path, before: Unwritten) -> bool:
    """Whether nobody has written to a store since a moment. Three files are looked at, and none is opened."""
    try:
        now = path.stat()
        state = _State(now.st_ino, now.st_size, now.st_mtime_ns, _pending(before.file))
    except OSError:
        return False
    return state == before.state


def _pending(file: Path) -> int:
    return _size(f"{file}-wal") + _size(f"{file}-journal")


def _is_there(file: Path) -> bool:
    try:
        file.stat()
    except FileNotFoundError:  # anything else that is wrong with the path is an error, never an empty store
        return False
    return True


def _size(name: str) -> int:
    try:
        return Path(name).stat().st_size
    except FileNotFoundError:
        return 0


def _require_no_logs(path: Path, file: Path) -> None:
    """Refuse a log without its store: SQLite would write it over whatever store is made there next."""
    logs = [f"{file}{end}" for end in LOGS[:2] if _size(f"{file}{end}")]
    if logs and not file.exists():  # it may have been made in this moment
        raise StoreError(
            f"The verdict store {path} is gone, but a log of it is still there: {logs[0]}.",
            hint=f"Put the file back beside its log; or, if it is lost, {aside(file)}",
        )


def _require_content(path: Path, file: Path) -> None:
    """Refuse what SQLite would take for an empty database, or wait for.

    Nothing here may open the file but SQLite: closing it again would take away the locks that this process holds.
    """
    status = file.stat()
    if not S_ISREG(status.st_mode):
        raise StoreError(f"The verdict store {path} is not a file.", hint="Name a file with --store.")
    _require_one_name(path, file)
    if status.st_size == 0:
        raise StoreError(f"The verdict store {path} {DAMAGED}: it is empty.", hint=recovery_hint(file))


def _require_one_name(path: Path, file: Path) -> None:
    """Refuse a file with several names: SQLite puts its log beside the name, so a writer by one name undoes another.

    A draft of `create`, of a process that is making the store now or was killed, is not a name that anybody opens.
    """
    for _ in range(_ATTEMPTS):
        names = file.stat().st_nlink
        if names == 1:
            return
        drafts = [draft for draft in file.parent.glob(f"{_DRAFTS}*/{file.name}") if _is_same(draft, file)]
        if names - len(drafts) <= 1:
            return
        time.sleep(_TICK / 1e9)  # the draft may have gone between the two looks
    raise StoreError(
        f"The verdict store {path} has {names} names (hard links), and each would keep a log of its own.",
        hint="Keep one name and remove the others; a symbolic link may stand in their place.",
    )


def _is_same(draft: Path, file: Path) -> bool:
    """Whether a draft is the store by another name; one that went meanwhile is not."""
    try:
        return draft.samefile(file)
    except OSError:
        return False


def _read_here(path: Path, file: Path, query: str, values: tuple[str, ...]) -> Selected:
    """Read as an unchanging file when no log lies beside it, else as SQLite's readers do.

    An ordinary reader of a WAL file makes two files beside it, leaves them there, and fails where it may not. The
    short cut takes no locks: what it read counts only if nobody wrote meanwhile.
    """
    before = _State.settled(file)
    if before.pending == 0:
        try:
            rows = _select(path, file, "immutable=1", query, values)
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            if _State.of(file) == before:
                raise
        else:
            if _State.of(file) == before:
                return rows
    return _read_locked(path, file, query, values)


def _read_shared(path: Path, file: Path, query: str, values: tuple[str, ...]) -> Selected:
    """Read what other machines may write: always under locks, which also make their writes visible."""
    try:
        return _read_locked(path, file, query, values)
    except sqlite3.OperationalError as problem:
        if problem.sqlite_errorcode != sqlite3.SQLITE_CANTOPEN or _pending(file):
            raise
    return _select(path, file, "immutable=1", query, values)  # a WAL file, copied to where nobody here may write


def _read_locked(path: Path, file: Path, query: str, values: tuple[str, ...]) -> Selected:
    try:
        return patiently(file, lambda: _select(path, file, "mode=ro", query, values))
    except sqlite3.OperationalError as problem:
        if problem.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
    return patiently(
        file, lambda: _select(path, file, "mode=rw", query, values)
    )  # a writer was killed: opened so, SQLite undoes its half


def _select(path: Path, file: Path, options: str, query: str, values: tuple[str, ...]) -> Selected:
    with closing(connect(file, options)) as connection:
        schema = _required_schema(path, connection)
        return Selected(schema, connection.execute(query, values).fetchall())


def _required_schema(path: Path, connection: sqlite3.Connection) -> int:
    schema = schema_of(connection)
    if schema is None:
        raise StoreError(f"{path} is an SQLite database, but no verdict store.", hint=ELSEWHERE)
    if schema > SCHEMA:
        raise StoreError(
            f"A newer release wrote the verdict store {path}: its schema is {schema}, and this one reads {SCHEMA}.",
            hint="Upgrade vllm-moe-tuner, or name another store with --store.",
        )
    return schema


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
