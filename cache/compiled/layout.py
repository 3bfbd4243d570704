"""A VLLM_CACHE_ROOT read into entries, what lies beside them, and the warm-ups that name them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cache.compiled.entry import Entry, Kind, make_entry
from cache.compiled.factors import MAX_BYTES
from cache.compiled.files import Item, Listing, list_items, noted_reads, read_bytes
from cache.compiled.warm_record import WarmRecord, read_records

_ENTRY = re.compile(
    r"(?:torch_compile_cache/(?P<graphs>[0-9a-f]{10})"  # vllm/compilation/backends.py, 0.14.1 to 0.33.0
    r"|(torch_compile_cache/)?torch_aot_compile/(?P<aot>[0-9a-f]{64})"  # decorators.py; in the root up to 0.16
    r"|tuner/[0-9a-f]{32})(?=/|\Z)"  # an explicit `compilation_config.cache_dir`, as `tuner serve` writes it
)
_HOLDERS = ("torch_compile_cache/torch_aot_compile", "torch_compile_cache", "torch_aot_compile", "tuner")


@dataclass(frozen=True)
class StrayItem:
    """Something in the root that is no entry.

    Attributes:
        path: below the root: the name in it, or in one of the folders that hold entries.
        size: bytes of its files.
        files: how many.
    """

    path: str
    size: int
    files: int


@dataclass(frozen=True)
class CacheRoot:
    """Everything in a cache root.

    Attributes:
        path: the root, links resolved.
        entries: by path.
        beside: what lies there beside entries, by path.
        records: of warm-ups, newest first.
        damaged_records: names of record files that cannot be read.
        noted_reads: how well reads show in `Entry.used`, as `files.noted_reads`.
        listing: all items.
    """

    path: Path
    entries: tuple[Entry, ...]
    beside: tuple[StrayItem, ...]
    records: tuple[WarmRecord, ...]
    damaged_records: tuple[str, ...]
    noted_reads: str
    listing: Listing = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size for entry in self.entries)

    def launches(self, entry: Entry) -> list[WarmRecord]:
        """The warm-ups that name an entry, newest first."""
        return [record for record in self.records if entry.path in map(_normal, record.entries)]

    def missing(self, record: WarmRecord) -> list[str]:
        """Entries that a record names and that are not there."""
        there = {entry.path for entry in self.entries}
        return [path for path in map(_normal, record.entries) if path not in there]


def read_root(path: Path) -> CacheRoot:
    """Read a cache root. Its files are looked at, a few small ones read; none is run, unpickled or changed.

    Raises:
        OSError: there is no such folder, or it cannot be read.
    """
    root = path.resolve(strict=True)
    listing = list_items(root)
    groups = _groups(listing)
    entries = [make_entry(_kind(path), path, items, partial(_content, root)) for path, items in groups.items()]
    records, damaged = read_records(root)
    return CacheRoot(
        root,
        tuple(entries),
        _beside(listing, groups),
        tuple(records),
        tuple(damaged),
        noted_reads(root),
        listing,
    )


def _groups(listing: Listing) -> dict[str, list[Item]]:
    """The items of each entry, by the entry's path. A link in an entry's place is none."""
    groups: dict[str, list[Item]] = {
        item.path: [] for item in listing.items if item.is_folder and _entry_of(item.path) == item.path
    }
    for item in listing.items:
        if (entry := _entry_of(item.path)) in groups:
            groups[entry].append(item)
    return groups


def _entry_of(path: str) -> str:
    """The entry that a path belongs to, if there is one; empty if there is none."""
    match = _ENTRY.match(path)
    return match[0] if match else ""


def _kind(path: str) -> Kind:
    match = _ENTRY.match(path)
    return Kind.AOT if match and match["aot"] else Kind.GRAPHS


def _content(root: Path, item: Item) -> bytes | None:
    if item.size > MAX_BYTES:
        return None
    try:
        return read_bytes(root / item.path, MAX_BYTES)
    except OSError:
        return None


def _beside(listing: Listing, groups: Mapping[str, object]) -> tuple[StrayItem, ...]:
    found: dict[str, list[Item]] = {}
    for item in listing.items:
        if item.path not in {".", *_HOLDERS} and _entry_of(item.path) not in groups:
            found.setdefault(place_of(item.path), []).append(item)
    return tuple(
        StrayItem(path, sum(item.size for item in items), sum(item.is_file for item in items))
        for path, items in sorted(found.items())
    )


def place_of(path: str) -> str:
    """What a path belongs to: an entry, or else the first part of it below the root or a folder of entries."""
    if entry := _entry_of(path):
        return entry
    for holder in _HOLDERS:
        if path.startswith(f"{holder}/"):
            return f"{holder}/{path[len(holder) + 1 :].partition('/')[0]}"
    return path.partition("/")[0]


def _normal(path: str) -> str:
    return path.rstrip("/")
