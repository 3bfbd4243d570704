"""Control folders: created, locked while their host lives, and removed after a host died without removing its own."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from tuner.processes.failures import no_control_folder
from tuner.processes.keeper import end

PREFIX = "tuner-control-"


def new_folder() -> tuple[Path, int]:
    """A new folder, and the open handle that holds its lock: nobody removes the folder while the handle is open.

    Raises:
        TunerError: kind `control_folder`: the folder cannot be created.
    """
    try:
        while True:  # only once, unless another host removes the folder as abandoned before it is locked
            path = Path(tempfile.mkdtemp(prefix=PREFIX))
            if (handle := _locked(path)) is not None:
                return path, handle
    except OSError as error:
        raise no_control_folder(error) from None


def remove_abandoned() -> None:
    """Remove the folders of this user's dead hosts, and end the processes that still run there.

    A living host holds the lock of its folder.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # a link, another user's, in use, or removed meanwhile
            _remove(path)


def _remove(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_uid == os.geteuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end(path, None)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(handle)


def _locked(path: Path) -> int | None:
    """The handle that holds the folder's lock; None if another process was faster."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if _locks(handle) and path.exists():
        return handle
    os.close(handle)
    return None


def _locks(handle: int) -> bool:
    """Whether this process now has the folder; on a file system without locks no other process can lock it either."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
