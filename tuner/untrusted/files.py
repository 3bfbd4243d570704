"""Files of somebody else, read so that none can hold this process up or fill its memory."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: Path) -> BinaryIO:
    """A regular file, opened for reading. Links are followed: the hub's cache is made of them.

    A pipe is not waited for, and a device is not even opened.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    _require_regular(path, path.stat().st_mode)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(path, os.fstat(handle).st_mode)  # it may have been exchanged meanwhile
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_plain(path: Path, limit: int) -> bytes:
    """The first `limit` bytes of a file that `open_plain` opens.

    Raises:
        OSError: as `open_plain`, or it cannot be read.
    """
    with open_plain(path) as file:
        data: bytes | None = file.read(limit)
    if data is None:  # some files of the kernel look regular and wait like a pipe
        raise OSError(errno.EAGAIN, "it has nothing to read yet", str(path))
    return data


def read_end(path: Path, limit: int) -> bytes:
    """The last `limit` bytes of a file of our own.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit)


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
