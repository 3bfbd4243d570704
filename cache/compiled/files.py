"""What lies below a folder: names, sizes, times and owners. Links are not followed, and what vanishes is skipped."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """A file, folder or link, as `lstat` describes it.

    Attributes:
        path: relative to the root, with `/`; `.` is the root itself.
        mode: kind and permissions.
        size: bytes; 0 for what is not a file.
        mtime: when it was last written, seconds since 1970.
        atime: when it was last read, as far as the file system notes it (`noted_reads`).
        uid: its owner.
        inode: number of its device and of itself; tells it from any other file.
    """

    path: str
    mode: int
    size: int
    mtime: float
    atime: float
    uid: int
    inode: tuple[int, int]

    @property
    def is_file(self) -> bool:
        """A regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        """A folder, not a link to one."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """A symbolic link, wherever it leads."""
        return stat.S_ISLNK(self.mode)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The path of the folder that it lies in; empty in the root."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Listing:
    """Everything below a root, by path.

    Attributes:
        items: the root itself first.
        unread: paths of folders and files that could not be looked at.
    """

    items: tuple[Item, ...]
    unread: tuple[str, ...]


def list_items(root: Path) -> Listing:
    """Walk a root once.

    Raises:
        OSError: the root itself cannot be read.
    """
    items, unread, folders = [_item(".", root.stat())], [], [""]
    while folders:
        folder = folders.pop()
        try:
            children = list(_children(root, folder))
        except OSError as error:
            if not folder:
                raise
            if not isinstance(error, FileNotFoundError):  # removed since its parent was read
                unread.append(folder)
            continue
        items += children
        folders += [item.path for item in children if item.is_folder]
    return Listing(tuple(sorted(items, key=lambda item: (item.path != ".", item.path))), tuple(sorted(unread)))


def _children(root: Path, folder: str) -> Iterator[Item]:
    with os.scandir(root / folder) as entries:
        for entry in entries:
            try:
                yield _item(f"{folder}/{entry.name}" if folder else entry.name, entry.stat(follow_symlinks=False))
            except FileNotFoundError:  # as above
                continue


def _item(path: str, state: os.stat_result) -> Item:
    size = state.st_size if stat.S_ISREG(state.st_mode) else 0
    inode = (state.st_dev, state.st_ino)
    return Item(path, state.st_mode, size, state.st_mtime, state.st_atime, state.st_uid, inode)


def read_bytes(path: Path, limit: int) -> bytes:
    """The start of a regular file, read so that its time of last use stays, where the kernel lets us.

    Args:
        path: the file; a link is refused.
        limit: bytes at most.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # only the owner may ask for it
        handle = os.open(path, flags)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path} is not a regular file")
        return file.read(limit)


def noted_reads(root: Path) -> str:
    """How well the file system notes that a file was read: `always`, `daily` at best (relatime), or `never`.

    Raises:
        OSError: the root cannot be asked.
    """
    flags = os.statvfs(root).f_flag
    if flags & (os.ST_NOATIME | os.ST_RDONLY):
        return "never"
    return "daily" if flags & os.ST_RELATIME else "always"
