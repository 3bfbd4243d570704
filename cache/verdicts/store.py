"""The verdict store: one SQLite file, one sqlitedict table, JSON values.

Reads go to SQLite directly: sqlitedict adds about 25 ms of CPU (its imports, its thread) to a look-up, and even its
read-only flag needs a folder that can be written. Writes go through sqlitedict, imported when the first is due.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import unquote

from cache.errors import StoreError
from cache.filesystem import network_type
from cache.key import differences
from cache.verdicts.advice import BUSY_SECONDS, real_path, reported
from cache.verdicts.database import (
    Selected,
    Unwritten,
    bring_up_to_date,
    connect_to_write,
    create,
    is_still,
    journal_mode,
    patiently,
    read,
    require_store,
    unwritten,
)
from cache.verdicts.entry import Entry, SignedLine
from cache.verdicts.place import Place
from cache.verdicts.row import (
    digest_of,
    encode,
    line_record,
    line_row,
    read_entry,
    read_files,
    read_line,
    read_text,
    sources_row,
    verdict_prefix,
    verdict_row,
)
from cache.verdicts.schema import TABLE, sealed

__all__ = ["Entry", "VerdictStore"]

_PAGE = 100  # entries in memory at once while listing; a report can be large
SHORTEST_PREFIX = 4
"""Hexadecimal characters of a digest that may name an entry."""
_MAX_NAMED = 10  # digests that an error lists
_DIGEST_LENGTH = 64
NO_LINES: Mapping[str, SignedLine] = MappingProxyType({})
FORGOTTEN = "forgotten"
"""Name of the record that says what was removed last. SQLite gives the number of a removed last row again; this record,
written after the removal, takes that number, so that no later change can have it."""


class VerdictStore:
    """Remembered verdicts, by key. Several processes may use one store at the same time.

    No handle stays open between calls, so a store object may live through a long probe. A missing file is an empty
    store; the first `put` makes it, and its folder with mode 0700. A record that is damaged is an error that names
    its digest, never a miss and never a verdict.

    Args:
        path: the file.
        read_only: refuse `put` and `forget`.
        named: as in `Place`.
    """

    def __init__(self, path: Path, *, read_only: bool = False, named: bool = False) -> None:
        self.path = path
        self.place = Place(path, named)
        self.read_only = read_only
        self._latest: tuple[Unwritten, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do: no handle is open between calls."""

    @property
    def warning(self) -> str | None:
        """What whoever writes here should know of the place; None if there is nothing.

        Raises:
            StoreError: the path cannot be followed.
        """
        with reported(self.path):
            kind = network_type(real_path(self.path))
        if kind is None:
            return None
        return (
            f"The verdict store {self.path} lies on a network file system ({kind}): writes there are as safe as its "
            "file locks. Prefer a local file, and carry verdicts with `tuner verdicts export` and `import`."
        )

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
        texts = list(self._texts("key = ?", sources_row(base)))
        return read_files(self.place, *texts[0]) if texts else None

    def find(self, digest_prefix: str) -> Entry | None:
        """The one entry whose digest starts so.

        Raises:
            StoreError: the prefix is shorter than 4 hexadecimal characters, or several entries share it.
        """
        row = self._named(digest_prefix, "verdict:*:")
        return None if row is None else self._entry_in(row)

    def entries(self) -> Iterator[Entry]:
        """All entries, by architecture and then digest.

        Raises:
            StoreError: while iterating, at the first record that is damaged.
        """
        last, more = "verdict:", True
        while more:
            more = False
            for row, text in self._texts("key > ? AND key < 'verdict;' ORDER BY key LIMIT ?", last, str(_PAGE)):
                yield read_entry(self.place, row, text)
                last, more = row, True

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
        texts = self._texts("key > ? AND key < ? ORDER BY key", start, start[:-1] + ";")
        return [read_entry(self.place, *text) for text in texts]

    def newest_change(self) -> int:
        """The number of the latest change; 0 for an empty store.

        Raises:
            StoreError: the store cannot be used.
        """
        before = unwritten(self.path)
        rows = self._read("SELECT max(rowid) FROM {table}").rows
        number = (rows[0][0] if rows else None) or 0
        self._latest = (before, number) if before else None
        return number

    def change_at_hand(self) -> int | None:
        """The number of the latest change, if it was read before and nobody has written since; nothing is opened."""
        latest = self._latest
        return latest[1] if latest and is_still(self.path, latest[0]) else None

    def changes(self, since: int, limit: int) -> list[tuple[int, Entry | StoreError]]:
        """Entries that were written after a change, in the order of their latest writes.

        A number is never given again, so that whoever has read up to one misses nothing. An entry that was written
        twice has the number of the later write alone; one that was forgotten has none.

        Args:
            since: the number of the last change that is known; 0: none.
            limit: the most entries to read.

        Returns:
            The number of each change, with its entry; in place of a damaged entry the error that names it.

        Raises:
            StoreError: the store cannot be used.
        """
        query = (
            "SELECT rowid, key, value FROM {table} WHERE rowid > ? AND key > 'verdict:' AND key < 'verdict;' "
            "ORDER BY rowid LIMIT ?"
        )
        selected = self._read(query, str(since), str(limit))
        return [
            (number, self._changed(row.decode(errors="replace"), value, selected.schema))
            for number, row, value in selected.rows
        ]

    def signed_line(self, entry: Entry) -> SignedLine | None:
        """The signed line that carries a stored entry; None if it came without one, or that is damaged.

        Raises:
            StoreError: the store cannot be used.
        """
        row = line_row(entry.digest)
        selected = self._read("SELECT value FROM {table} WHERE key = ?", row)
        try:
            return (
                read_line(read_text(self.place, row, selected.rows[0][0], selected.schema), entry)
                if selected.rows
                else None
            )
        except StoreError:  # who needs the signature goes without the verdict
            return None

    def _changed(self, row: str, value: object, schema: int) -> Entry | StoreError:
        try:
            return read_entry(self.place, row, read_text(self.place, row, value, schema))
        except StoreError as error:
            return error

    def put(self, *entries: Entry) -> None:
        """Remember entries, replacing those of the same keys: all of them or, on an error, none.

        On return they are committed and synced to the disk. Each is stored with the file list that `sources`
        returns for its factors.

        Raises:
            StoreError: the store cannot be written, or an entry holds something that JSON does not have.
        """
        texts = dict(pair for entry in entries for pair in _sealed(entry))
        with self._writing() as table:
            table.update(texts)

    def merge(
        self,
        entries: Iterable[Entry],
        is_wanted: Callable[[Entry | None, Entry], bool],
        *,
        latest: bool = False,
        lines: Mapping[str, SignedLine] = NO_LINES,
    ) -> None:
        """Remember those entries that `is_wanted` chooses: all of them or, on an error, none.

        What is stored cannot change between the question and the write. A file list that is already stored for the
        same factors stays, unless the new entries are those of the latest probe. A signed line is kept with its entry,
        also where the same probe was stored without one before, or with that of another key.

        Args:
            entries: each of another key.
            is_wanted: asked with the entry that is stored for the same key, or None, and the new one.
            latest: the entries come from a probe that ended just now.
            lines: digest of an entry -> the signed line that it came in.

        Raises:
            StoreError: as `put`, or a stored entry of one of these keys is damaged.
        """
        texts = [(entry, *_sealed(entry)) for entry in entries]
        with self._writing() as table:
            # Asked before anything is written: a rollback journal may lock every reader out, this process too. Read
            # past sqlitedict, whose thread dies of a text that is not UTF-8: what is committed is seen, and nobody
            # else can commit now.
            chosen = [self._chosen(*text, is_wanted, lines) for text in texts]
            for (row, text), (files_row, files), signed in filter(None, chosen):
                table[row] = text
                table.update(signed)
                if latest or files_row not in table:
                    table[files_row] = files

    def _chosen(
        self,
        entry: Entry,
        record: tuple[str, str],
        files: tuple[str, str],
        is_wanted: Callable[[Entry | None, Entry], bool],
        lines: Mapping[str, SignedLine],
    ) -> "_Records | None":
        """What is written of an entry of `merge`; None: nothing."""
        line, stored = lines.get(entry.digest), self._entry_in(record[0])
        signed = _sealed_line(line, entry) if line else {}
        if is_wanted(stored, entry):
            return record, files, signed
        if line and stored and self._lacks(line, stored, entry):
            return *_sealed(stored), signed  # a new change, for those who passed over it unsigned
        return None

    def _lacks(self, line: SignedLine, stored: Entry, new: Entry) -> bool:
        """Whether a stored entry rests on the same probe as a new one, and has no line that this key signed."""
        if stored.content != new.content:
            return False
        before = self.signed_line(stored)
        return before is None or before.key != line.key

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
            table[FORGOTTEN] = sealed(FORGOTTEN, encode(digest_of(row)))
            del table[line_row(digest_of(row))]  # last: the record above then has a number behind this one's, too
        return digest_of(row)

    def _read(self, query: str, *values: str) -> Selected:
        return read(self.path, query.format(table=TABLE), *values)

    def _texts(self, where: str, *values: str) -> Iterator[tuple[str, object]]:
        """Names and texts of the rows that a condition selects."""
        selected = self._read(f"SELECT key, value FROM {{table}} WHERE {where}", *values)  # noqa: S608  our own constants
        for name, value in selected.rows:
            row = name.decode(errors="replace")
            yield row, read_text(self.place, row, value, selected.schema)

    def _entry_in(self, row: str) -> Entry | None:
        texts = list(self._texts("key = ?", row))
        return read_entry(self.place, *texts[0]) if texts else None

    def _named(self, digest_prefix: str, kind: str) -> str | None:
        self._require_prefix(digest_prefix)
        pattern = kind + digest_prefix.lower().ljust(_DIGEST_LENGTH, "?")
        query = f"SELECT key FROM {{table}} WHERE key GLOB ? ORDER BY key LIMIT {_MAX_NAMED}"  # noqa: S608  our own
        names = [row[0].decode(errors="replace") for row in self._read(query, pattern).rows]
        if len(names) > 1:
            raise StoreError(
                f"Several stored digests start with {digest_prefix}.",
                hint="Give more of the digest's characters:\n" + "\n".join(map(_described, names)),
            )
        return names[0] if names else None

    def _require_prefix(self, digest_prefix: str) -> None:
        if len(digest_prefix) < SHORTEST_PREFIX or not set(digest_prefix.lower()) <= set("0123456789abcdef"):
            shows = f"`{self.place.command('verdicts', 'list')}` shows them."
            raise StoreError(
                f"{digest_prefix!r} is not a digest of a verdict.",
                hint=f"Give at least {SHORTEST_PREFIX} of its hexadecimal characters; {shows}",
            )

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        if self.read_only:
            raise StoreError(f"The verdict store {self.path} was opened for reading only.")
        require_store(self.path)
        with reported(self.path), ExitStack() as stack:
            file = real_path(self.path)
            create(file)
            yield patiently(file, lambda: stack.enter_context(_transaction(self.path, file)))


_Records = tuple[tuple[str, str], tuple[str, str], dict[str, str]]
"""Name and value of an entry's record and of its file list, and the same of its signed line, if it has one."""


def _sealed_line(line: SignedLine, entry: Entry) -> dict[str, str]:
    row = line_row(entry.digest)
    return {row: sealed(row, line_record(line, entry))}


def _sealed(entry: Entry) -> tuple[tuple[str, str], tuple[str, str]]:
    """Name and value of an entry's two records: itself, and the list of its files."""
    row, files_row = verdict_row(entry.key), sources_row(entry.key)
    files = sealed(files_row, encode(sorted(entry.sources)))
    return (row, sealed(row, encode(entry.to_dict()))), (files_row, files)


def _described(row: str) -> str:
    """A record as an error lists it: digest and architecture."""
    _, _, identity = row.partition(":")
    architecture, _, digest = identity.rpartition(":")
    return f"{digest[:12]}  {unquote(architecture)}"


def _probed_at(pair: tuple[Entry, tuple[str, ...]]) -> str:
    return pair[0].probed_at


def _distance(pair: tuple[Entry, tuple[str, ...]]) -> int:
    return len(pair[1])


@contextmanager
def _transaction(path: Path, file: Path) -> Iterator[Any]:
    """A sqlitedict table inside one transaction, committed and synced at the end, rolled back on any exception.

    What sqlitedict 2.1.0 does by itself: it pickles values, turns synchronous writes off, waits 5 seconds for a lock,
    prints a traceback when opening fails, and hangs when its `commit` fails or when it opens a file with the journal
    mode DELETE while another process has it open.
    """
    import logging  # noqa: PLC0415  as below

    from sqlitedict import SqliteDict  # noqa: PLC0415  look-ups do without it

    logging.getLogger("sqlitedict").setLevel(logging.CRITICAL)  # each error is raised as well
    # This handle meets the errors of opening before sqlitedict's thread can, and outlives it for the checkpoint.
    with closing(connect_to_write(file)) as guard:
        bring_up_to_date(path, guard)
        guard.execute("BEGIN")
        guard.execute("SELECT 1 FROM sqlite_master").fetchall()  # now nobody can lock out sqlitedict, which opens next
        # The values that reach it are texts already: no codec but `str`, above all not pickle.
        mode = journal_mode(file)
        table = SqliteDict(str(file), TABLE, journal_mode=mode, encode=str, decode=str, outer_stack=False)
        thread = table.conn
        try:
            guard.commit()
            for statement in (
                "PRAGMA synchronous=EXTRA",
                f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}",
                "BEGIN IMMEDIATE",
            ):
                thread.select_one(statement)
            bring_up_to_date(path, guard)  # refuses what a newer release wrote meanwhile; from here on nobody can
            yield table
            thread.select_one("SELECT 1")  # writes are only queued: the error of any is raised here
            thread.select_one("COMMIT")  # as a statement; an error in its own commit() ends the thread unheard
        finally:
            table.close(force=True)
            thread.join()
