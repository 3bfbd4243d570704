"""Moves what a server filled into a cache root that others use: entry by entry, each with one rename."""

import secrets
import shutil
from operator import attrgetter
from pathlib import Path

from cache.compiled.entry import EntryKind
from cache.compiled.layout import read_root
from cache.compiled.place import put, relocate

WARMING = ".warming-"
UNPACKING = ".unpacking-"


def staging_folder(root: Path) -> Path:
    """A new folder beside the entries of a cache root, on the same file system; its name tells `prune` what it is.

    Raises:
        OSError: it cannot be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"{WARMING}{secrets.token_hex(6)}"
    folder.mkdir(mode=0o700)
    return folder


def publish(staging: Path, root: Path) -> tuple[list[str], list[str]]:
    """Move everything in a staging folder into the root it stands in. What is there already stays as it is.

    A reader sees a whole entry or none: each is renamed once, when all that it refers to is in its place.

    Returns:
        The entries of the compile cache that were moved and those that were there before, relative to the root.

    Raises:
        OSError: something cannot be moved.
    """
    moved: list[str] = []
    present: list[str] = []
    for entry in entries_in(staging):
        relocate(staging, entry, root)
        (moved if put(staging / entry, root / entry) else present).append(entry)
    for file in sorted(staging.rglob("*")):
        relative = file.relative_to(staging)
        is_plain = file.is_file() and not file.is_symlink()
        if is_plain and not any(map(relative.is_relative_to, present)):
            put(file, root / relative)
    shutil.rmtree(staging, ignore_errors=True)
    return moved, present


def entries_in(root: Path) -> list[str]:
    """The entries of the compile cache below a root, relative to it, in the order in which they may be published.

    Through 0.26, to load what was compiled ahead of time reads graphs too, so those go first.
    """
    entries = sorted(read_root(root).entries, key=lambda entry: (entry.kind is EntryKind.AOT, entry.path))
    return list(map(attrgetter("path"), entries))
