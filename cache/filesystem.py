"""Which file system a file lies on, by the kernel's own table of mounts."""

import re
from collections.abc import Iterable
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""The mounts that this process sees; the format is in proc_pid_mountinfo(5)."""

_NETWORK = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
    *("ocfs2", "orangefs", "panfs", "smb3", "smbfs", "virtiofs", "vboxsf", "wekafs"),
}
_LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.lxcfs"}


def network_type(file: Path) -> str | None:
    """The type of the network file system that holds `file`, such as `nfs4`; None: a local one, or not to be told.

    One that several machines can mount counts, and so does a FUSE file system that is not known as local.

    Args:
        file: an absolute path without links; it need not exist.
    """
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux, or no /proc
        return None
    kind = mounted_type(file, mounts)
    return kind if kind is not None and _is_network(kind) else None


def mounted_type(file: Path, mounts: Iterable[str]) -> str | None:
    """The type of the innermost of these mounts that holds `file`; of several at one place the last. Pure."""
    found: tuple[int, str] | None = None
    for line in mounts:
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) > 4 and kinds[0]:  # noqa: PLR2004  the fifth field is the mount point
            place = Path(_unescaped(fields[4]))
            if file.is_relative_to(place) and (found is None or len(place.parts) >= found[0]):
                found = len(place.parts), kinds[0]
    return found and found[1]


def _unescaped(text: str) -> str:
    r"""Blank, tab, line end and backslash stand as `\040`, `\011`, `\012`, `\134`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _is_network(kind: str) -> bool:
    return kind in _NETWORK or (kind.startswith("fuse") and kind != "fuseblk" and kind not in _LOCAL_FUSE)
