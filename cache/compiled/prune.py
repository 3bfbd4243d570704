"""What may go from a cache root, and how it goes. The choice is pure; the removal is one rename, then a deletion."""

import errno
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.compiled.entry import Entry
from cache.compiled.files import Item
from cache.compiled.in_use import HeldFiles
from cache.compiled.layout import CacheRoot
from cache.compiled.publish import UNPACKING, WARMING
from cache.compiled.warm_record import FOLDER

REMOVING = ".removing-"
"""The same of what is being removed."""
DAY = 86400.0
"""Seconds. What is unfinished and younger than this may still be at work."""


@dataclass(frozen=True)
class Criteria:
    """What is asked to go; each adds to the others.

    Attributes:
        older_than: days since an entry was last used; None: any age stays.
        max_size: bytes that all entries may have together, the longest unused go first; None: any.
        unreachable: entries that no record names, and what was left unfinished.
    """

    older_than: float | None = None
    max_size: int | None = None
    unreachable: bool = False


@dataclass(frozen=True)
class Candidate:
    """Something that may go.

    Attributes:
        path: below the root.
        size: bytes.
        why: the criterion that it meets, in words.
    """

    path: str
    size: int
    why: str


@dataclass(frozen=True)
class Pruning:
    """What came of the criteria.

    Attributes:
        going: what goes, in order.
        staying: what meets a criterion and stays, `why` saying why.
        records: files of the warm records that name what goes: they go first, for they are true no more.
        notes: what a reader must know.
    """

    going: tuple[Candidate, ...]
    staying: tuple[Candidate, ...]
    records: tuple[str, ...]
    notes: tuple[str, ...]


def choose(root: CacheRoot, criteria: Criteria, held: HeldFiles, now: float) -> Pruning:
    """Choose what goes.

    Args:
        root: the cache root.
        criteria: what is asked.
        held: files that live processes hold; nothing that has one of them goes.
        now: seconds since 1970.
    """
    notes = list(_notes(root, criteria, held))
    stays = {entry.path: why for entry in root.entries if (why := _must_stay(root, entry, held, now))}
    wanted = _wanted(root, criteria, {*stays}, now)
    found = [Candidate(entry.path, entry.size, wanted[entry.path]) for entry in _by_use(root) if entry.path in wanted]
    going = [one for one in found if one.path not in stays]
    staying = [Candidate(one.path, one.size, f"{stays[one.path]} ({one.why})") for one in found if one.path in stays]
    if criteria.unreachable:
        for candidate, at_work in _leftovers(root, {one.path for one in going}, held, now):
            (staying if at_work else going).append(candidate)
    records = _records_of(root, {candidate.path for candidate in going})
    return Pruning(tuple(going), tuple(staying), records, tuple(notes))


def _wanted(root: CacheRoot, criteria: Criteria, staying: set[str], now: float) -> dict[str, str]:
    """The entries that meet a criterion, by path, and which it is; the paths in `staying` must stay whatever it is."""
    wanted = {entry.path: why for entry in root.entries if (why := _why(root, entry, criteria, now))}
    if criteria.max_size is not None:
        wanted |= _oversize(root, criteria.max_size, {*wanted} - staying, staying)
    return wanted


def _records_of(root: CacheRoot, gone: set[str]) -> tuple[str, ...]:
    """The files of the warm records that name one of these paths."""
    records = [record for record in root.records if gone & {path.rstrip("/") for path in record.entries}]
    return tuple(f"{FOLDER}/{record.digest}.json" for record in records)


def _notes(root: CacheRoot, criteria: Criteria, held: HeldFiles) -> Iterator[str]:
    if criteria.unreachable and not _tellable(root):
        lacking = (
            f"these records cannot be read: {', '.join(root.damaged_records)}"
            if root.damaged_records
            else "no warm-up has left a record in this root"
        )
        yield f"Which entries no launch reaches cannot be told: {lacking}. Only unfinished ones count as unreachable."
    if root.noted_reads == "never":
        yield "This file system does not note reads: the last use of an entry is its last writing."
    if held.unseen:
        yield f"Processes that cannot be looked into from here: {held.unseen}; they may hold files of this root."
    if root.listing.unread:
        yield f"Could not be read, and stays: {', '.join(root.listing.unread)}."


def _tellable(root: CacheRoot) -> bool:
    """Whether the records can say that no launch names an entry."""
    return bool(root.records) and not root.damaged_records


def _by_use(root: CacheRoot) -> list[Entry]:
    """The entries, the longest unused first."""
    return sorted(root.entries, key=lambda entry: (entry.used, entry.path))


def _must_stay(root: CacheRoot, entry: Entry, held: HeldFiles, now: float) -> str:
    """Why an entry stays whatever is asked; empty if it may go."""
    if held.holds(root.path, entry.items):
        return "in use"
    return "" if entry.complete or now - entry.used > DAY else "a start may be filling it"


def _why(root: CacheRoot, entry: Entry, criteria: Criteria, now: float) -> str:
    """The criterion, but `max_size`, that an entry meets; empty if none."""
    days = (now - entry.used) / DAY
    if criteria.older_than is not None and days > criteria.older_than:
        return f"last used {days:.1f} days ago"
    if criteria.unreachable and entry.complete is False:
        return f"unfinished: {entry.why}"
    unnamed = criteria.unreachable and _tellable(root) and not root.launches(entry)
    return "no record names it" if unnamed else ""


def _oversize(root: CacheRoot, limit: int, going: set[str], staying: set[str]) -> dict[str, str]:
    """More entries that should go to reach a size; what stays counts, and others go in its place."""
    size = sum(entry.size for entry in root.entries if entry.path not in going)
    more = {}
    for entry in _by_use(root):
        if size > limit and entry.path not in going:
            more[entry.path] = "longest unused of too much"
            size -= 0 if entry.path in staying else entry.size
    return more


def _leftovers(root: CacheRoot, gone: set[str], held: HeldFiles, now: float) -> Iterator[tuple[Candidate, bool]]:
    """Unfinished things beside and in entries that stay, and whether each may still be at work."""
    for beside in root.beside:
        if beside.path.rpartition("/")[2].startswith((WARMING, UNPACKING, REMOVING)):
            inside = [item for item in root.listing.items if f"{item.path}/".startswith(f"{beside.path}/")]
            yield _leftover(root.path, beside.path, inside, held, now)
    for entry in (entry for entry in root.entries if entry.path not in gone):
        for path in entry.leftovers:
            yield _leftover(root.path, path, [item for item in entry.items if item.path == path], held, now)


def _leftover(root: Path, path: str, items: Sequence[Item], held: HeldFiles, now: float) -> tuple[Candidate, bool]:
    size = sum(item.size for item in items)
    if held.holds(root, items):
        return Candidate(path, size, "in use (unfinished)"), True
    if now - max(item.mtime for item in items) < DAY:
        return Candidate(path, size, "unfinished, and younger than a day"), True
    return Candidate(path, size, "unfinished, and older than a day"), False


def remove(root: Path, path: str) -> None:
    """Remove one thing below a root: no start ever sees half of it. What is gone already is no error.

    It is renamed into a folder of the root first, or beside itself where a file system is mounted below the root. A
    start that looks for it now finds nothing and compiles anew; a process that holds a file of it keeps that file.

    Raises:
        OSError: it could not be renamed, and is untouched, or could not be deleted whole: then the rest lies in a
            folder `.removing-*`.
    """
    try:
        shutil.rmtree(_aside(root, root / path))
    except FileNotFoundError:
        return


def _aside(root: Path, path: Path) -> Path:
    """Rename something into a new folder, and give that folder."""
    try:
        return _renamed_into(root, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    return _renamed_into(path.parent, path)


def _renamed_into(folder: Path, path: Path) -> Path:
    aside = Path(tempfile.mkdtemp(prefix=REMOVING, dir=folder))
    try:
        path.rename(aside / "it")
    except OSError:
        aside.rmdir()
        raise
    return aside
