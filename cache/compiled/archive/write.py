"""Writes an archive: the records of warm-ups and the cache folders that they name, as tar inside zstd.

The same cache gives the same bytes: members are sorted, without owners and times. Only files are kept, no empty
folders.
"""

import hashlib
import io
import json
import os
import stat
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

import zstandard

from cache.compiled.archive.manifest import (
    MAX_MANIFEST,
    NAME,
    Manifest,
    PackedFile,
    entries_of,
    manifest_bytes,
    record_path,
    require_sound_files,
    require_sound_records,
)
from cache.compiled.archive.trees import require_whole_trees
from cache.compiled.factors import FACTORS
from cache.compiled.warm_record import WarmRecord, read_records
from cache.errors import ArchiveError
from cache.secrets import refused_names

_STOP = "Stop the server that fills this cache, then pack it again."
_WARM = "Warm it again with `tuner cache warm`."


def pack(root: Path, archive: Path, records: Sequence[WarmRecord]) -> Manifest:
    """Write an archive, over an older one of its name; readers see the old or the new one.

    Args:
        root: the VLLM_CACHE_ROOT.
        archive: the file to write.
        records: the warm-ups to pack, as `read_records` read them there.

    Raises:
        ArchiveError: an entry is missing, holds a secret or anything but files, or changed under way; or some ranks
            of an autotune tree are cold.
        OSError: something cannot be read or written.
    """
    require_sound_records(records)
    before = _listed(root, records)
    require_whole_trees(root, records)
    manifest = _manifest(root, records, list(before))
    _require_no_secret(root, manifest)
    temporary = archive.with_name(f".{archive.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("xb") as file:
            _write(file, root, manifest)
            file.flush()
            os.fsync(file.fileno())
        _require_unchanged(root, records, before)
        temporary.replace(archive)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return manifest


Listing = dict[str, tuple[int, ...]]
"""Path -> mode, size, times of change in ns, and inode."""


def _listed(root: Path, records: Sequence[WarmRecord]) -> Listing:
    """Every file to pack, by path."""
    listing: Listing = {}
    for name in (*entries_of(records), *map(record_path, records)):
        _require_reached(root, name)
        for path in _walk(root / name):
            state = path.lstat()
            facts = (state.st_mode, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
            listing[path.relative_to(root).as_posix()] = facts
    return dict(sorted(listing.items()))


def _require_reached(root: Path, name: str) -> None:
    """Raise unless an entry is there, and no folder above it is a link."""
    for part in (*reversed(Path(name).parents[:-1]), Path(name)):
        if (root / part).is_symlink():
            raise ArchiveError(f"{part} is a symbolic link, which is not packed")
    if not (root / name).exists():
        raise ArchiveError(f"a record names {name}, which is not there", hint=_WARM)


def _walk(path: Path) -> Iterator[Path]:
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        yield path
    elif stat.S_ISDIR(mode):
        for name in os.listdir(path):  # noqa: PTH208  its order is not used: `_listed` sorts
            yield from _walk(path / name)
    else:
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
        raise ArchiveError(f"{str(path)!r:.400} is {kind}, which is not packed")


def _manifest(root: Path, records: Sequence[WarmRecord], paths: Sequence[str]) -> Manifest:
    ordered = tuple(sorted(records, key=attrgetter("digest")))
    made_at = max(map(attrgetter("made_at"), records))
    manifest = Manifest(made_at, ordered, tuple(map(partial(_described, root), paths)))
    require_sound_files(manifest)
    return manifest


def _described(root: Path, path: str) -> PackedFile:
    with (root / path).open("rb") as file:
        state = os.fstat(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return PackedFile(path, state.st_size, sha256, bool(state.st_mode & stat.S_IXUSR))


def _require_no_secret(root: Path, manifest: Manifest) -> None:
    for record in manifest.records:
        _refuse(record_path(record), refused_names(record.factors))
    for file in manifest.files:
        if Path(file.path).name == FACTORS:
            try:
                names = refused_names(json.loads((root / file.path).read_text(encoding="utf-8")))
            except (ValueError, RecursionError):
                reason = f"{file.path} is not JSON, so it cannot be told whether it holds a secret"
                raise ArchiveError(reason, hint=_WARM) from None
            _refuse(file.path, names)


def _refuse(path: str, names: Sequence[str]) -> None:
    if names:
        hint = "Warm it again without these variables; an API key can be given by --api-key."
        raise ArchiveError(f"{path} holds the value of {', '.join(names)!r:.200}, which must not leave", hint=hint)


def _write(file: BinaryIO, root: Path, manifest: Manifest) -> None:
    data = manifest_bytes(manifest)
    if len(data) > MAX_MANIFEST:
        raise ArchiveError("it holds too many files", hint="Pack fewer records at once, with --record.")
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    with (
        compressor.stream_writer(file, closefd=False) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        tar.addfile(_member(NAME, len(data)), io.BytesIO(data))
        for packed in manifest.files:
            _add(tar, root / packed.path, packed)


def _add(tar: tarfile.TarFile, path: Path, packed: PackedFile) -> None:
    """Add a file that is what the manifest says, after it was read as well as before."""
    with path.open("rb") as source:
        try:
            tar.addfile(_member(packed.path, packed.size, executable=packed.executable), source)
        except OSError as error:
            if error.errno is None:  # tarfile: the file is shorter than its header says
                raise _changed(packed.path) from None
            raise
        source.seek(0)
        if hashlib.file_digest(source, "sha256").hexdigest() != packed.sha256:
            raise _changed(packed.path)


def _member(path: str, size: int, *, executable: bool = False) -> tarfile.TarInfo:
    """A header without owner and time: `TarInfo` leaves both at zero."""
    member = tarfile.TarInfo(path)
    member.size = size
    member.mode = 0o755 if executable else 0o644
    return member


def _require_unchanged(root: Path, records: Sequence[WarmRecord], before: Listing) -> None:
    after = _listed(root, records)
    if differing := {path for path, _ in before.items() ^ after.items()}:
        raise _changed(min(differing))
    present, _ = read_records(root)
    for record in records:
        if record not in present:
            raise _changed(record_path(record))


def _changed(path: str) -> ArchiveError:
    return ArchiveError(f"{path} changed while it was packed", hint=_STOP)
