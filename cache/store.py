"""The verdict store: one SQLite file, one sqlitedict table, JSON values.

Reads go to SQLite directly: sqlitedict adds about 25 ms of CPU (its imports, its thread) to a look-up, and even its
read-only flag needs a folder that can be written. Writes go through sqlitedict, imported when the first is due.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from cache.database import BUSY_SECONDS, SCHEMA, TABLE, connect, read, real_path, reported
from cache.entry import Entry
from cache.errors import StoreError
from cache.key import differences
from cache.record import digest_of, encode, read_entry, read_files, sources_row, verdict_prefix, verdict_row

__all__ = ["Entry", "VerdictStore"]

_PAGE = 100  # entries in memory at once while listing; a report can be large
_SHORTEST_PREFIX = 8  # hexadecimal characters
_DIGEST_LENGTH = 64


class VerdictStore:
    """Remembered verdicts, by key. Several processes may use one store at the same time.

    No handle stays open between calls, so a store object may live through a long probe. A missing file is an empty
    store; the first `put` makes it, and its folder with mode 0700. A record that is damaged is an error that names
    its digest, never a miss and never a verdict.

    Args:
        path: the file.
        read_only: refuse `put` and `forget`.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do: no handle is open between calls."""

    def get(self, key: Mapping[str, Any]) -> Entry | None:
        """The entry of exactly this key.

        Raises:
            StoreError: the store or the record cannot be used.
        """
        return self._entry_in(verdict_row(key))

    def sources(self, base: Mapping[str, Any]) -> tuple[str, ...] | None:
        """Files to hash again for these factors, sorted; the hashes' digest completes them to the full key.

        Args:
            base: the factors without `sources`; that factor is ignored if present.

        Raises:
            StoreError: the store or the record cannot be used.
        """
        row = sources_row(base)
        rows = self._read("SELECT value FROM {table} WHERE key = ?", row)
        return read_files(self.path, row, rows[0][0]) if rows else None

    def find(self, digest_prefix: str) -> Entry | None:
        """The one entry whose digest starts so.

        Raises:
            StoreError: the prefix is shorter than 8 hexadecimal characters, or several entries share it.
        """
        row = self._named(digest_prefix, "verdict:*:")
        return None if row is None else self._entry_in(row)

    def entries(self) -> Iterator[Entry]:
        """All entries, by architecture and then digest.

        Raises:
            StoreError: while iterating, at the first record that is damaged.
        """
        query = "SELECT key, value FROM {table} WHERE key > ? AND key < 'verdict;' ORDER BY key LIMIT ?"
        last = "verdict:"
        while rows := self._read(query, last, str(_PAGE)):
            for name, value in rows:
                last = name.decode(errors="replace")
                yield read_entry(self.path, last, value)

    def nearest(self, key: Mapping[str, Any], architecture: str) -> tuple[Entry, tuple[str, ...]] | None:
        """The entry of the same architecture with the fewest differing factors, and their names.

        Of equally near ones the latest probed. Other architectures' entries are passed over by their names alone.

        Raises:
            StoreError: the store or a record of this architecture cannot be used.
        """
        pairs = [(entry, differences(entry.key, key)) for entry in self.of_architecture(architecture)]
        return min(sorted(pairs, key=_probed_at, reverse=True), key=_distance, default=None)

    def of_architecture(self, architecture: str) -> list[Entry]:
        """All entries of one architecture, by digest. Other architectures' are passed over by their names alone.

        Raises:
            StoreError: the store or a record of this architecture cannot be used.
        """
        start = verdict_prefix(architecture)
        query = "SELECT key, value FROM {table} WHERE key > ? AND key < ? ORDER BY key"
        rows = self._read(query, start, start[:-1] + ";")
        return [read_entry(self.path, name.decode(errors="replace"), value) for name, value in rows]

    def put(self, *entries: Entry) -> None:
        """Remember entries, replacing those of the same keys: all of them or, on an error, none.

        On return they are committed and synced to the disk. Each is stored with the file list that `sources`
        returns for its factors.

        Raises:
            StoreError: the store cannot be written, or an entry holds something that JSON does not have.
        """
        records: dict[str, Any] = {}
        for entry in entries:
            records[verdict_row(entry.key)] = entry.to_dict()
            records[sources_row(entry.key)] = sorted(entry.sources)
        texts = {row: encode(record) for row, record in records.items()}
        with self._writing() as table:
            table.update(texts)

    def merge(self, entries: Iterable[Entry], wanted: Callable[[Entry | None, Entry], bool]) -> None:
        """Remember those entries that `wanted` asks for: all of them or, on an error, none.

        What is stored cannot change between the question and the write. A file list that is already stored for the
        same factors stays: it is the latest probe's.

        Args:
            entries: each of another key.
            wanted: told the entry that is stored for the same key, or None, and the new one.

        Raises:
            StoreError: as `put`, or a stored entry of one of these keys is damaged.
        """
        texts = [(entry, encode(entry.to_dict()), encode(sorted(entry.sources))) for entry in entries]
        with self._writing() as table:
            for entry, text, files in texts:
                # Read past sqlitedict, whose thread dies of a text that is no UTF-8: what is committed is seen, and
                # nobody else can commit now.
                if wanted(self._entry_in(verdict_row(entry.key)), entry):
                    table[verdict_row(entry.key)] = text
                    if sources_row(entry.key) not in table:
                        table[sources_row(entry.key)] = files

    def forget(self, digest_prefix: str) -> str | None:
        """Remove the one record whose digest starts so, even if it is damaged.

        Returns:
            The full digest, or None if there is no such record.

        Raises:
            StoreError: as `find`, or the store cannot be written.
        """
        row = self._named(digest_prefix, "*:")
        if row is None:
            return None
        with self._writing() as table, suppress(KeyError):  # KeyError: another process was faster
            del table[row]
        return digest_of(row)

    def _read(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        return read(self.path, query.format(table=TABLE), *values)

    def _entry_in(self, row: str) -> Entry | None:
        rows = self._read("SELECT value FROM {table} WHERE key = ?", row)
        return read_entry(self.path, row, rows[0][0]) if rows else None

    def _named(self, digest_prefix: str, kind: str) -> str | None:
        _require_prefix(digest_prefix)
        pattern = kind + digest_prefix.lower().ljust(_DIGEST_LENGTH, "?")
        rows = self._read("SELECT key FROM {table} WHERE key GLOB ? LIMIT 2", pattern)
        if len(rows) > 1:
            raise StoreError(
                f"Several stored digests start with {digest_prefix}.", hint="Give more of the digest's characters."
            )
        return rows[0][0].decode(errors="replace") if rows else None

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        if self.read_only:
            raise StoreError(f"The verdict store {self.path} was opened for reading only.")
        self._read("SELECT 1")  # refuses what is no store of this schema
        with reported(self.path):
            file = real_path(self.path)
            _create(file)
            with _transaction(file, "rw") as table:
                yield table


def _require_prefix(digest_prefix: str) -> None:
    if len(digest_prefix) < _SHORTEST_PREFIX or not set(digest_prefix.lower()) <= set("0123456789abcdef"):
        raise StoreError(
            f"{digest_prefix!r} is no digest of a verdict.",
            hint=f"Give at least {_SHORTEST_PREFIX} of its hexadecimal characters; `tuner verdicts list` shows them.",
        )


def _probed_at(pair: tuple[Entry, tuple[str, ...]]) -> str:
    return pair[0].probed_at


def _distance(pair: tuple[Entry, tuple[str, ...]]) -> int:
    return len(pair[1])


def _create(file: Path) -> None:
    """Make an empty store unless there is one: complete from its first moment, whoever else is making it."""
    if file.exists():
        return
    from tempfile import TemporaryDirectory  # noqa: PLC0415  only the first write of all needs it

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".new-store-", dir=file.parent) as folder:
        blank = Path(folder, file.name)
        with _transaction(blank, "rwc") as table:
            table["schema"] = json.dumps(SCHEMA)
        with suppress(FileExistsError):  # a link, unlike a rename, never replaces the store of a faster process
            os.link(blank, file)
    _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _transaction(file: Path, mode: str) -> Iterator[Any]:
    """A sqlitedict table inside one transaction, committed and synced at the end, rolled back on any exception.

    What sqlitedict 2.1.0 does by itself: it pickles values, turns synchronous writes off, waits 5 seconds for a lock,
    prints a traceback when opening fails, and hangs when its `commit` fails or when it opens a file with the journal
    mode DELETE while another process has it open.
    """
    import logging  # noqa: PLC0415  as below

    from sqlitedict import SqliteDict  # noqa: PLC0415  look-ups do without it

    logging.getLogger("sqlitedict").setLevel(logging.CRITICAL)  # each error is raised as well
    # This handle meets the errors of opening before sqlitedict's thread can, and outlives it for the checkpoint.
    with closing(connect(file, f"mode={mode}")) as guard:
        guard.execute("PRAGMA journal_mode=WAL").fetchall()
        # The values that reach it are JSON texts already: no codec but `str`, above all not pickle.
        table = SqliteDict(str(file), TABLE, journal_mode="WAL", encode=str, decode=str, outer_stack=False)
        thread = table.conn
        try:
            for statement in (
                "PRAGMA synchronous=FULL",
                f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}",
                "BEGIN IMMEDIATE",
            ):
                thread.select_one(statement)
            yield table
            thread.select_one("SELECT 1")  # writes are only queued: the error of any is raised here
            thread.select_one("COMMIT")  # as a statement; an error in its own commit() ends the thread unheard
        finally:
            table.close(force=True)
            thread.join()
