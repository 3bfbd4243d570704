"""What a warm-up made: one JSON file for each, beside the cache it filled."""

import json
import os
import tempfile
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from cache.key import finite

FOLDER = "tuner-warm"
"""Where the records lie, below a VLLM_CACHE_ROOT; vLLM looks at no such name."""
SCHEMA_VERSION = 1
MAX_RECORD = 64 * 1024 * 1024
"""Bytes; its factors take most of them: less than one MiB for each launch that was measured."""


class WarmRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One warm-up.

    Attributes:
        digest: of the launch: its arguments, variables and environment; names the file.
        made_at: when it ended, ISO 8601 in UTC.
        model: the model as the launch names it.
        architecture: its class in vLLM.
        vllm: version of vLLM.
        torch: version of torch; None if there is none.
        platform: `cpu`, `cuda`, ...
        gpu: the GPU's name; None without one.
        args: the argument list behind `vllm serve`, without values that may be secret.
        entries: the cache folders it filled, relative to the root.
        size: bytes in them.
        factors: what vLLM's keys were computed from (`tuner.compile_cache.factors`); empty if they were not asked for.
        cold_seconds: from start to ready with an empty cache.
        warm_seconds: the same of the second start; None if there was none.
        hit: whether the second start loaded what the first had made; None: its log does not say, or there was none.
        proof: the words of vLLM's log that say so; empty if none do.
    """

    digest: str
    made_at: str
    model: str
    architecture: str
    vllm: str
    torch: str | None
    platform: str
    gpu: str | None
    args: tuple[str, ...]
    entries: tuple[str, ...]
    size: int
    factors: dict[str, Any] = {}
    cold_seconds: float | None = None
    warm_seconds: float | None = None
    hit: bool | None = None
    proof: str = ""


def write_record(root: Path, record: WarmRecord) -> Path:
    """Write a record below a cache root, over an older one of the same launch; readers see the old or the new one.

    Raises:
        OSError: it cannot be written.
    """
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{record.digest}.json"
    document = record_document(record)
    handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # other users serve from this root, too
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def read_records(root: Path) -> tuple[list[WarmRecord], list[str]]:
    """The records below a cache root, newest first, and the names of files there that are not records."""
    records, damaged = [], []
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            records.append(_read_record(path))
        except (OSError, ValueError, RecursionError):
            damaged.append(path.name)
    return sorted(records, key=attrgetter("made_at"), reverse=True), damaged


def _read_record(path: Path) -> WarmRecord:
    with path.open("rb") as file:
        data = file.read(MAX_RECORD + 1)
    if len(data) > MAX_RECORD:
        raise ValueError(path)
    return record_in(json.loads(data.decode(), parse_float=finite, parse_constant=finite))


def record_document(record: WarmRecord) -> dict[str, Any]:
    """A record as it is written; `record_in` reads it back."""
    return {"schema_version": SCHEMA_VERSION, **msgspec.structs.asdict(record)}


def record_in(document: Any) -> WarmRecord:
    """The record in a JSON value.

    Raises:
        ValueError: it is not a record of this release.
    """
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise ValueError("no schema version of this release")
    fields = {name: value for name, value in document.items() if name != "schema_version"}
    try:
        return msgspec.convert(fields, WarmRecord)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter for half a surrogate pair
        raise ValueError(str(error)) from None
