"""A VLLM_CACHE_ROOT read into entries, what lies beside them, and the warm-ups that name them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path

from cache.compiled.autotune import FOLDER as AUTOTUNE
from cache.compiled.entry import CacheEntry, EntryKind, make_entry
from cache.compiled.factors import MAX_BYTES
from cache.compiled.files import Item, Listing, list_items, noted_reads, read_bytes
from cache.compiled.warm_record import WarmRecord, read_records

_ENTRY = re.compile(
    r"(?:torch_compile_cache/(?P<graphs>[0-9a-f]{10})"  # vllm/compilation/backends.py, 0.14.1 to 0.33.0
    r"|(torch_compile_cache/)?torch_aot_compile/(?P<aot>[0-9a-f]{64})"  # decorators.py; in the root up to 0.16
    rf"|{AUTOTUNE}/[^/]+/[^/]+/(?P<autotune>[0-9a-f]{{64}})"  # `cache.compiled.autotune`
    r"|tuner/[0-9a-f]{32})(?=/|\Z)"  # an explicit `compilation_config.cache_dir`, as `tuner serve` writes it
)
_HOLDERS = ("torch_compile_cache/torch_aot_compile", "torch_compile_cache", "torch_aot_compile", "tuner")
_TUNED_HOLDER = re.compile(rf"{AUTOTUNE}(?:/[^/]+){{0,2}}")
"""The folders of versions and architectures above the entries of FlashInfer's autotune."""


@dataclass(frozen=True)
class StrayItem:
    """Something in the root that is not an entry.

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
        noted_reads: how well reads show in `CacheEntry.used`, as `files.noted_reads`.
        listing: all items.
    """

    path: Path
    entries: tuple[CacheEntry, ...]
    beside: tuple[StrayItem, ...]
    records: tuple[WarmRecord, ...]
    damaged_records: tuple[str, ...]
    noted_reads: str
    listing: Listing = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(map(attrgetter("size"), self.entries))

    def launches(self, entry: CacheEntry) -> list[WarmRecord]:
        """The warm-ups that name an entry, newest first."""
        return [record for record in self.records if entry.path in map(normal_path, record.entries)]

    def missing(self, record: WarmRecord) -> list[str]:
        """Entries that a record names and that are not there."""
        present = set(map(attrgetter("path"), self.entries))
        return [path for path in map(normal_path, record.entries) if path not in present]


def read_root(path: Path) -> CacheRoot:
    """Read a cache root: list its files, and read a few small ones. No file is run, unpickled or changed.

    Raises:
        OSError: there is no such folder, or it cannot be read.
    """
    root = path.resolve(strict=True)
    listing = list_items(root)
    groups = _groups(listing)
    read = partial(content_of, root)
    entries = tuple(make_entry(_kind(path), path, items, read) for path, items in groups.items())
    records, damaged = read_records(root)
    return CacheRoot(
        root,
        entries,
        _beside(listing, groups),
        tuple(records),
        tuple(damaged),
        noted_reads(root),
        listing,
    )


def _groups(listing: Listing) -> dict[str, list[Item]]:
    """The items of each entry, by the entry's path. A link in the place of an entry is not an entry."""
    groups: dict[str, list[Item]] = {}
    for item in listing.items:
        if item.is_folder and _entry_of(item.path) == item.path:
            groups[item.path] = []
    for item in listing.items:
        if (entry := _entry_of(item.path)) in groups:
            groups[entry].append(item)
    return groups


def _entry_of(path: str) -> str:
    """The entry that a path belongs to; empty if it belongs to none."""
    match = _ENTRY.match(path)
    return match[0] if match else ""


def _kind(path: str) -> EntryKind:
    match = _ENTRY.match(path)
    if match and match["autotune"]:
        return EntryKind.AUTOTUNE
    return EntryKind.AOT if match and match["aot"] else EntryKind.GRAPHS


def content_of(root: Path, item: Item) -> bytes | None:
    """The content of a small file below a root; None if it is large or cannot be read."""
    if item.size > MAX_BYTES:
        return None
    try:
        return read_bytes(root / item.path, MAX_BYTES)
    except OSError:
        return None


def _beside(listing: Listing, groups: Mapping[str, object]) -> tuple[StrayItem, ...]:
    places: dict[str, list[Item]] = {}
    for item in listing.items:
        if not _is_holder(item) and _entry_of(item.path) not in groups:
            places.setdefault(place_of(item.path), []).append(item)
    return tuple(_stray(path, items) for path, items in sorted(places.items()))


def _is_holder(item: Item) -> bool:
    """Whether this is the root or a folder that holds entries."""
    if item.path in {".", *_HOLDERS}:
        return True
    return item.is_folder and bool(_TUNED_HOLDER.fullmatch(item.path))


def _stray(path: str, items: Sequence[Item]) -> StrayItem:
    return StrayItem(path, sum(map(attrgetter("size"), items)), sum(map(attrgetter("is_file"), items)))


def place_of(path: str) -> str:
    """What a path belongs to: an entry, or else the first part of it below the root or a folder of entries."""
    if entry := _entry_of(path):
        return entry
    for holder in _HOLDERS:
        if path.startswith(f"{holder}/"):
            return f"{holder}/{path[len(holder) + 1 :].partition('/')[0]}"
    if path.startswith(f"{AUTOTUNE}/"):
        return "/".join(path.split("/")[:4])
    return path.partition("/")[0]


def normal_path(path: str) -> str:
    """The path of an entry as a record may write it, without the slash behind it."""
    return path.rstrip("/")
