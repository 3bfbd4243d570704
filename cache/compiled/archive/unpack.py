"""Puts an archive's entries in place: all are checked in a folder beside the cache, then each is renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from cache.compiled.archive.manifest import Manifest, record_path
from cache.compiled.archive.read import Archive
from cache.compiled.archive.trees import require_whole_trees
from cache.compiled.place import put, relocate
from cache.compiled.publish import UNPACKING
from cache.compiled.warm_record import read_records
from cache.errors import ArchiveError


@dataclass(frozen=True)
class Unpacked:
    """What became of an archive.

    Attributes:
        entries, records: paths, relative to the cache root, of what is new there.
        present: paths of what was there already and was left as it is.
    """

    entries: tuple[str, ...]
    records: tuple[str, ...]
    present: tuple[str, ...]


def unpack(archive: Archive, root: Path) -> Unpacked:
    """Put the entries of an archive below a cache root, then the records; nothing if a check of any part fails.

    Raises:
        ArchiveError: the archive is damaged, hostile, or larger than what is free; or some ranks of an autotune tree
            are cold, in it or in the place where it belongs.
        OSError: something cannot be written; entries that are in place already stay, and are whole.
    """
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if archive.manifest.size > free:
        raise ArchiveError(f"its files have {archive.manifest.size} bytes, and {free} are free below {root}")
    staging = Path(tempfile.mkdtemp(prefix=UNPACKING, dir=root))
    try:
        archive.extract(staging)
        _require_records(archive.manifest, staging)
        for place in (staging, root):
            require_whole_trees(place, archive.manifest.records)
        for folder, _, _ in os.walk(staging):
            Path(folder).chmod(0o755)  # whatever the umask: another user may run the server
        return _put(archive.manifest, staging, root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _require_records(manifest: Manifest, staging: Path) -> None:
    """The records are those that the manifest repeats: what was compared is what is stored."""
    records, damaged = read_records(staging)
    if damaged or sorted(records, key=attrgetter("digest")) != list(manifest.records):
        raise ArchiveError("its records are not those in its manifest")


def _put(manifest: Manifest, staging: Path, root: Path) -> Unpacked:
    for entry in manifest.entries:
        relocate(staging, entry, root.absolute())
    new_entries, present_entries = _put_each(manifest.entries, staging, root)
    new_records, present_records = _put_each(map(record_path, manifest.records), staging, root)
    return Unpacked(tuple(new_entries), tuple(new_records), (*present_entries, *present_records))


def _put_each(paths: Iterable[str], staging: Path, root: Path) -> tuple[list[str], list[str]]:
    """Put paths in place, and give those that are new and those that were there already."""
    new: list[str] = []
    present: list[str] = []
    for path in paths:
        (new if put(staging / path, root / path) else present).append(path)
    return new, present
