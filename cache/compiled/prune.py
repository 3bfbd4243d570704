"""What is removed from a cache root. The choice is pure; a removal is one rename, then a deletion."""

import errno
import shutil
import tempfile
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from cache.compiled.entry import CacheEntry
from cache.compiled.files import Item
from cache.compiled.in_use import HeldFiles
from cache.compiled.layout import CacheRoot, normal_path
from cache.compiled.publish import UNPACKING, WARMING
from cache.compiled.warm_record import FOLDER

REMOVING = ".removing-"
"""Start of the name of a folder with what is being removed."""
DAY = 86400.0
"""Seconds. A process may still write what is unfinished and younger than this."""


@dataclass(frozen=True)
class Criteria:
    """What is asked to go; each adds to the others.

    Attributes:
        older_than: days since an entry was last used; None: any age stays.
        max_size: bytes that all entries may have together, the longest unused go first; None: any.
        unreachable: entries that no record names, and what is unfinished.
    """

    older_than: float | None = None
    max_size: int | None = None
    unreachable: bool = False


@dataclass(frozen=True)
class Candidate:
    """Something that could be removed.

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
        records: files of the warm records that name what goes; they go first, as they are no longer true.
        notes: what a reader must know.
    """

    going: tuple[Candidate, ...]
    staying: tuple[Candidate, ...]
    records: tuple[str, ...]
    notes: tuple[str, ...]


def choose(root: CacheRoot, criteria: Criteria, used_files: HeldFiles, now: float) -> Pruning:
    """Choose what goes.

    Args:
        root: the cache root.
        criteria: what is asked.
        used_files: files that live processes hold open; nothing that has one of them goes.
        now: seconds since 1970.
    """
    obstacles = _obstacles(root, used_files, now)
    reasons = _reasons(root, criteria, obstacles, now)
    going: list[Candidate] = []
    staying: list[Candidate] = []
    for entry in _by_use(root):
        reason = reasons.get(entry.path)
        if reason is None:
            continue
        obstacle = obstacles.get(entry.path)
        if obstacle is None:
            going.append(Candidate(entry.path, entry.size, reason))
        else:
            staying.append(Candidate(entry.path, entry.size, f"{obstacle} ({reason})"))
    if criteria.unreachable:
        for leftover in _leftovers(root, set(map(_path, going)), used_files, now):
            (staying if leftover.at_work else going).append(leftover.candidate)
    records = _records_of(root, set(map(_path, going)))
    return Pruning(tuple(going), tuple(staying), records, tuple(_notes(root, criteria, used_files)))


def _path(candidate: Candidate) -> str:
    return candidate.path


def _obstacles(root: CacheRoot, used_files: HeldFiles, now: float) -> dict[str, str]:
    """Path -> why the entry stays, of the entries that stay whatever is asked."""
    obstacles = {}
    for entry in root.entries:
        if used_files.holds(root.path, entry.items):
            obstacles[entry.path] = "in use"
        elif not entry.complete and now - entry.used <= DAY:
            obstacles[entry.path] = "a start may be filling it"
    return obstacles


def _reasons(root: CacheRoot, criteria: Criteria, obstacles: Container[str], now: float) -> dict[str, str]:
    """Path -> the criterion that the entry meets, of the entries that meet one; `obstacles`: those that must stay."""
    reasons = {}
    for entry in root.entries:
        reason = _reason(root, entry, criteria, now)
        if reason is not None:
            reasons[entry.path] = reason
    if criteria.max_size is not None:
        reasons |= _oversize(root, criteria.max_size, reasons, obstacles)
    return reasons


def _records_of(root: CacheRoot, removed: set[str]) -> tuple[str, ...]:
    """The files of the warm records that name one of these paths."""
    records = [record for record in root.records if not removed.isdisjoint(map(normal_path, record.entries))]
    return tuple(f"{FOLDER}/{record.digest}.json" for record in records)


def _notes(root: CacheRoot, criteria: Criteria, used_files: HeldFiles) -> Iterator[str]:
    if criteria.unreachable and not _tellable(root):
        lacking = (
            f"these records cannot be read: {', '.join(root.damaged_records)}"
            if root.damaged_records
            else "no warm-up has left a record in this root"
        )
        yield f"Which entries no launch reaches cannot be told: {lacking}. Only unfinished ones count as unreachable."
    if root.noted_reads == "never":
        yield "This file system does not note reads: the last use of an entry is its last writing."
    if used_files.unseen:
        yield f"Processes that cannot be looked into from here: {used_files.unseen}; they may hold files of this root."
    if root.listing.unread:
        yield f"Could not be read, and stays: {', '.join(root.listing.unread)}."


def _tellable(root: CacheRoot) -> bool:
    """Whether the records can say that no launch names an entry."""
    return bool(root.records) and not root.damaged_records


def _by_use(root: CacheRoot) -> list[CacheEntry]:
    """The entries, the longest unused first."""
    return sorted(root.entries, key=lambda entry: (entry.used, entry.path))


def _reason(root: CacheRoot, entry: CacheEntry, criteria: Criteria, now: float) -> str | None:
    """The criterion, except `max_size`, that an entry meets; None if it meets none."""
    days = (now - entry.used) / DAY
    if criteria.older_than is not None and days > criteria.older_than:
        return f"last used {days:.1f} days ago"
    if not criteria.unreachable:
        return None
    if entry.complete is False:
        return f"unfinished: {entry.why}"
    if _tellable(root) and not root.launches(entry):
        return "no record names it"
    return None


def _oversize(root: CacheRoot, limit: int, chosen: Container[str], obstacles: Container[str]) -> dict[str, str]:
    """Path -> reason of more entries that should go to reach a size.

    Args:
        root: the cache root.
        limit: bytes that the remaining entries may have.
        chosen: paths of entries that meet another criterion.
        obstacles: paths of entries that must stay: they count, and others go in their place.
    """
    size = 0
    for entry in root.entries:
        if entry.path not in chosen or entry.path in obstacles:
            size += entry.size
    reasons = {}
    for entry in _by_use(root):
        if size > limit and (entry.path not in chosen or entry.path in obstacles):
            reasons[entry.path] = "longest unused of too much"
            size -= 0 if entry.path in obstacles else entry.size
    return reasons


@dataclass(frozen=True)
class _Leftover:
    """Something unfinished; `at_work`: a process may still write it."""

    candidate: Candidate
    at_work: bool


def _leftovers(root: CacheRoot, removed: set[str], used_files: HeldFiles, now: float) -> Iterator[_Leftover]:
    """Unfinished things beside entries, and in entries that stay."""
    for stray in root.beside:
        if stray.path.rpartition("/")[2].startswith((WARMING, UNPACKING, REMOVING)):
            items = [item for item in root.listing.items if f"{item.path}/".startswith(f"{stray.path}/")]
            yield _leftover(root.path, stray.path, items, used_files, now)
    for entry in root.entries:
        if entry.path in removed:
            continue
        for item in entry.items:
            if item.path in entry.leftovers:
                yield _leftover(root.path, item.path, [item], used_files, now)


def _leftover(root: Path, path: str, items: Sequence[Item], used_files: HeldFiles, now: float) -> _Leftover:
    size = sum(map(attrgetter("size"), items))
    if used_files.holds(root, items):
        return _Leftover(Candidate(path, size, "in use (unfinished)"), at_work=True)
    if now - max(map(attrgetter("mtime"), items)) < DAY:
        return _Leftover(Candidate(path, size, "unfinished, and younger than a day"), at_work=True)
    return _Leftover(Candidate(path, size, "unfinished, and older than a day"), at_work=False)


def remove(root: Path, path: str) -> None:
    """Remove one thing below a root: no start ever sees half of it. It is not an error if it is not there.

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
