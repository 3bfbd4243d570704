"""Which files live processes hold: open, or mapped into their memory. Linux' /proc is read, nothing else."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cache.compiled.files import Item

_MAP = re.compile(r"\S+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) (\d+) +(/.*)")
"""A line of /proc/PID/maps: device, inode, path (man 5 proc_pid_maps)."""


@dataclass(frozen=True)
class HeldFiles:
    """What live processes hold at one moment.

    A process that has read a file and closed it does not hold it: a server may have loaded an entry and not be seen.

    Attributes:
        inodes: device and number of each file, which are the same in every container.
        paths: of the mapped ones as well: some file systems (btrfs, overlay) show another device there.
        unseen: processes that this user must not look into.
    """

    inodes: frozenset[tuple[int, int]]
    paths: frozenset[str]
    unseen: int

    def holds(self, root: Path, items: Iterable[Item]) -> bool:
        """Whether one of these items is held."""
        return any(item.inode in self.inodes or str(root / item.path) in self.paths for item in items)


def held_files(proc: Path = Path("/proc")) -> HeldFiles:
    """Ask all processes that this user may look into, its own among them.

    Raises:
        OSError: there is no /proc.
    """
    inodes: set[tuple[int, int]] = set()
    paths: set[str] = set()
    unseen = 0
    for process in (path for path in proc.iterdir() if path.name.isdigit()):
        try:
            inodes.update(_open(process))
            for inode, path in _mapped(process):
                inodes.add(inode)
                paths.add(path)
        except PermissionError:
            unseen += 1
        except OSError:  # it ended
            continue
    return HeldFiles(frozenset(inodes), frozenset(paths), unseen)


def _open(process: Path) -> Iterator[tuple[int, int]]:
    for descriptor in os.scandir(process / "fd"):
        try:
            state = descriptor.stat()
        except OSError:  # it was closed
            continue
        yield state.st_dev, state.st_ino


def _mapped(process: Path) -> Iterator[tuple[tuple[int, int], str]]:
    text = (process / "maps").read_bytes().decode(errors="surrogateescape")
    for match in map(_MAP.match, text.splitlines()):
        if match:
            yield (os.makedev(int(match[1], 16), int(match[2], 16)), int(match[3])), match[4]
