"""Reads an archive, which may be damaged or hostile, member by member.

Of tarfile only the parser of one header is used. An archive of ours holds plain files and GNU's long names, and each is
read as far as the manifest says. tarfile's own iteration with its `data` filter checks less (Python 3.11 to 3.14): it
reads names of any size into memory before the filter is asked, takes a damaged header behind the first member for the
end, and lets links, folders and sparse files inside the target pass; the filter strips a leading slash and the setuid
bit where this reader refuses them.
"""

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from cache.compiled.archive.manifest import MAX_MANIFEST, MAX_PATH, NAME, Manifest, PackedFile, read_manifest
from cache.errors import ArchiveError

_CHUNK = 1024 * 1024
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a pipe",
}
_DAMAGED = "Copy it again, or make it again with `tuner cache pack`."


class Source(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes; empty at the end."""


@contextmanager
def opened(path: Path) -> Iterator["Archive"]:
    """Open an archive and read its manifest, which is sound; nothing else is read yet.

    Raises:
        ArchiveError: the file is not an archive, or damaged; also from within the context.
        OSError: the file cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise ArchiveError("it is not a regular file", hint=_DAMAGED)
    with path.open("rb") as file:
        try:
            yield Archive(_decompressed(file))
        except (tarfile.TarError, zstandard.ZstdError) as error:
            raise ArchiveError(f"it is damaged, or not an archive of a cache ({error})", hint=_DAMAGED) from None


def _decompressed(file: BinaryIO) -> Source:
    return zstandard.ZstdDecompressor().stream_reader(file, closefd=False)


class Archive:
    """An archive that is read once, from its start to its end.

    Attributes:
        manifest: what it must hold.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        first = self._member()
        if first is None or first.name != NAME:
            raise ArchiveError(f"it does not start with {NAME}", hint=_DAMAGED)
        if first.size > MAX_MANIFEST:
            raise ArchiveError(f"its manifest is larger than {MAX_MANIFEST // _CHUNK} MiB")
        self.manifest: Manifest = read_manifest(b"".join(self._contents(first.size)))
        self._index = {file.path: number for number, file in enumerate(self.manifest.files)}

    def extract(self, folder: Path) -> None:
        """Write every file below an empty folder, modes 0644 and 0755, each checked against the manifest.

        Raises:
            ArchiveError: a member is not what the manifest says; what was written until then stays.
            OSError: a file cannot be written.
        """
        for file in self.manifest.files:
            self._require(self._member(), file)
            self._write(file, folder)
        if extra := self._member():
            raise self._unexpected(extra.name, len(self._index))
        self._require_end()

    def _require(self, member: tarfile.TarInfo | None, file: PackedFile) -> None:
        if member is None:
            raise ArchiveError(f"{file.path} is in its manifest and not in it", hint=_DAMAGED)
        if member.name != file.path:
            raise self._unexpected(member.name, self._index[file.path])
        if member.size != file.size:
            raise ArchiveError(f"{file.path} has {member.size} bytes, and its manifest says {file.size}", hint=_DAMAGED)

    def _unexpected(self, name: str, expected: int) -> ArchiveError:
        """The error for a member in the place of another one."""
        number = self._index.get(name)
        if number is None:
            return ArchiveError(f"{name!r:.200} is not in its manifest")
        fault = "is in it twice" if number < expected else "is out of order, or what should precede it is missing"
        return ArchiveError(f"{name} {fault}", hint=_DAMAGED)

    def _write(self, file: PackedFile, folder: Path) -> None:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x+b") as target:
            target.writelines(self._contents(file.size))
            os.fchmod(target.fileno(), 0o755 if file.executable else 0o644)
            target.flush()
            os.fsync(target.fileno())
            target.seek(0)
            sha256 = hashlib.file_digest(target, "sha256").hexdigest()
        if sha256 != file.sha256:
            raise ArchiveError(f"the checksum of {file.path} is not the one in its manifest", hint=_DAMAGED)

    def _member(self) -> tarfile.TarInfo | None:
        """The next member, a plain file; None at the end."""
        member = self._header()
        if member is None or member.type != tarfile.GNUTYPE_LONGNAME:
            return member and _plain(member)
        if not 0 < member.size <= MAX_PATH + 1:
            raise ArchiveError("it has a member with an endless name")
        name = b"".join(self._contents(member.size)).rstrip(b"\0")
        following = self._header()
        if following is None:
            raise ArchiveError("it has a name without a member", hint=_DAMAGED)
        following.name = name.decode("utf-8", "surrogateescape")
        return _plain(following)

    def _header(self) -> tarfile.TarInfo | None:
        block = self._exactly(tarfile.BLOCKSIZE)
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape") if any(block) else None

    def _contents(self, size: int) -> Iterator[bytes]:
        """The bytes of a member, without what fills up its last block."""
        for start in range(0, size, _CHUNK):
            yield self._exactly(min(_CHUNK, size - start))
        self._exactly(-size % tarfile.BLOCKSIZE)

    def _exactly(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            part = self._source.read(missing)
            if not part:
                raise ArchiveError("it ends too early", hint=_DAMAGED)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _require_end(self) -> None:
        """Raise unless at most one record of zeros follows; at the end zstd compares its own checksum."""
        size = 0
        while data := self._source.read(tarfile.RECORDSIZE):
            size += len(data)
            if any(data) or size > tarfile.RECORDSIZE:
                raise ArchiveError("something follows its last file")


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same member; raise unless it is a plain file, as an archive of ours may hold."""
    if member.type != tarfile.REGTYPE:
        kind = _KINDS.get(member.type, f"of the kind {member.type!r}")
        raise ArchiveError(f"{member.name!r:.200} is {kind}, and only plain files are unpacked")
    if member.mode & ~0o777:
        raise ArchiveError(f"{member.name!r:.200} would be setuid, setgid or sticky")
    if member.size < 0:
        raise ArchiveError(f"{member.name!r:.200} has less than no bytes")
    return member
