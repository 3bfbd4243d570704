"""The first member of an archive: it lists the other members and the warm-ups that made them. Pure.

Unpacking trusts nothing else in an archive, and this only where it is sound: plain relative paths, sorted, each in a
folder that one of the records names.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from cache.compiled.autotune import FOLDER as AUTOTUNE
from cache.compiled.warm_record import FOLDER, WarmRecord, record_document, record_in
from cache.errors import ArchiveError

NAME = "manifest.json"
SCHEMA_VERSION = 1
COMPILED = "torch_compile_cache"
"""The folder below a VLLM_CACHE_ROOT in which vLLM keeps compiled graphs (vllm/compilation/backends.py and
decorators.py, 0.14.1 to 0.33.0)."""
MAX_MANIFEST = 64 * 1024 * 1024
"""Bytes; a file takes about 300."""
MAX_FILES = 100_000
"""In one archive; the entry of a small model on a CPU has about 60."""
MAX_PATH = 4096
"""Bytes of a path, PATH_MAX of Linux."""
MAX_STEPS = 64
"""Folders of a path and its name; vLLM's own have about ten."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that would steer a terminal, and halves of surrogate pairs, which are not text."""
_DIGEST = re.compile(r"[\w-]{1,128}", re.ASCII)
_PACK_AGAIN = "Make it again with `tuner cache pack`."


class PackedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file.

    Attributes:
        path: relative to the cache root.
        size: in bytes.
        sha256: of its contents.
        executable: whether its owner may run it, as shared objects are marked.
    """

    path: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
    executable: bool


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes:
        made_at: when the newest of its warm-ups ended, ISO 8601 in UTC; the time of packing would make equal caches
            differ.
        records: the warm-ups, by digest.
        files: all members but this one, by path, in the order in which they follow.
    """

    made_at: str
    records: tuple[WarmRecord, ...]
    files: tuple[PackedFile, ...]

    @property
    def entries(self) -> tuple[str, ...]:
        """The cache folders that the records name, sorted, each once."""
        return entries_of(self.records)

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(map(attrgetter("size"), self.files))


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON document of a manifest; `record_in` reads each record, which has a schema version itself."""

    schema_version: Literal[1]
    made_at: str
    records: tuple[Any, ...]
    files: tuple[PackedFile, ...]


def entries_of(records: Sequence[WarmRecord]) -> tuple[str, ...]:
    """The cache folders that records name, sorted, each once."""
    entries = chain.from_iterable(map(attrgetter("entries"), records))
    return tuple(sorted(set(entries)))


def record_path(record: WarmRecord) -> str:
    """Where a record lies, relative to the cache root."""
    return f"{FOLDER}/{record.digest}.json"


def manifest_bytes(manifest: Manifest) -> bytes:
    """A manifest as it is written: JSON in ASCII, keys sorted."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "made_at": manifest.made_at,
        "records": list(map(record_document, manifest.records)),
        "files": list(map(msgspec.structs.asdict, manifest.files)),
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def read_manifest(data: bytes) -> Manifest:
    """The manifest that `manifest_bytes` wrote, if it is sound.

    Raises:
        ArchiveError: it is of another release, damaged, or not sound.
    """
    document = _document(data)
    try:
        records = tuple(map(record_in, document.records))
    except ValueError:
        raise _unlike_ours() from None
    if not _is_plain(document.made_at):
        raise _unlike_ours()
    manifest = Manifest(document.made_at, records, document.files)
    require_sound_records(records)
    require_sound_files(manifest)
    return manifest


def require_sound_records(records: Sequence[WarmRecord]) -> None:
    """Raise if a record cannot be shown, stored, or followed to its entries.

    Raises:
        ArchiveError: there is no record, a digest comes twice, or an entry lies elsewhere or in another entry.
    """
    if not records:
        raise ArchiveError("it holds no record of a warm-up")
    digests = list(map(attrgetter("digest"), records))
    for record in records:
        texts = (record.digest, record.made_at, record.model, record.vllm, record.platform, record.torch, record.gpu)
        if not _DIGEST.fullmatch(record.digest) or not all(map(_is_plain, texts)):
            raise ArchiveError(f"the record {record.digest!r:.80} holds something that is not plain text")
    if len(set(digests)) < len(digests):
        raise ArchiveError("two of its records have one digest")
    _require_entries(entries_of(records))


def _require_entries(entries: Sequence[str]) -> None:
    for entry in entries:
        _require_path(entry)
        if not entry.startswith((f"{COMPILED}/", f"{AUTOTUNE}/")):
            raise ArchiveError(f"the entry {entry!r:.200} is not a folder in {COMPILED}/ or {AUTOTUNE}/")
        if outer := _ancestors(entry).intersection(entries):
            raise ArchiveError(f"the entry {entry} lies in another one, {min(outer)}")


def require_sound_files(manifest: Manifest) -> None:
    """Raise unless the files are those of the records and their entries, and can lie beside each other.

    Raises:
        ArchiveError: a path is not one in a cache, comes twice, is out of order, or belongs to no record; or a record
            or an entry has no file.
    """
    paths: list[str] = list(map(attrgetter("path"), manifest.files))
    if len(paths) > MAX_FILES:
        raise ArchiveError(f"it has {len(paths)} files, and at most {MAX_FILES} are unpacked")
    for path in paths:
        _require_path(path)
    for path, following in pairwise(paths):
        if path >= following:
            fault = "names it twice" if path == following else "is not sorted there"
            raise ArchiveError(f"its manifest {fault}: {following}")
    _require_owned(paths, manifest)


def _require_owned(paths: Sequence[str], manifest: Manifest) -> None:
    entries, files = set(manifest.entries), set(paths)
    records = set(map(record_path, manifest.records))
    filled: set[str] = set()
    for path in paths:
        folders = _ancestors(path)
        if folders & files:
            raise ArchiveError(f"{min(folders & files)} is a file and a folder in its manifest")
        if path not in records and not folders & entries:
            raise ArchiveError(f"{path} belongs to no record in its manifest")
        filled |= folders & entries
    if missing := (records - files) | (entries - filled):
        raise ArchiveError(f"its manifest lists nothing for {min(missing)}")


def _ancestors(path: str) -> set[str]:
    """The folders above a relative path, as paths."""
    steps = path.split("/")
    return {"/".join(steps[:number]) for number in range(1, len(steps))}


def _require_path(path: str) -> None:
    """Raise unless a path is plain and relative, of normal form, short, and without control characters."""
    steps = path.split("/")
    plain = _is_plain(path) and not {"", ".", ".."} & set(steps)
    if not plain or len(steps) > MAX_STEPS or len(path.encode()) > MAX_PATH:
        raise ArchiveError(f"{path!r:.200} is not a path in a cache")


def _document(data: bytes) -> _Document:
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise ArchiveError("its manifest is not JSON", hint=_PACK_AGAIN) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if type(version) is int and version > SCHEMA_VERSION:
        hint = "Upgrade vllm-moe-tuner, or pack the cache with the same release."
        raise ArchiveError(f"its schema is {version}, and this release reads {SCHEMA_VERSION}", hint=hint)
    try:
        return msgspec.convert(document, _Document)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter for half a surrogate pair
        raise _unlike_ours() from None


def _unlike_ours() -> ArchiveError:
    return ArchiveError("its manifest is not as `tuner cache pack` writes it", hint=_PACK_AGAIN)


def _is_plain(text: str | None) -> bool:
    """Whether a text can be shown and stored; a field that is not set can."""
    return text is None or not CONTROL.search(text)
