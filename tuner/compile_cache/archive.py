"""Compile caches that travel: what `tuner cache pack` and `unpack` do, and what they say."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from cache.compiled.archive.manifest import Manifest
from cache.compiled.archive.read import opened
from cache.compiled.archive.unpack import Unpacked
from cache.compiled.archive.unpack import unpack as put_in_place
from cache.compiled.archive.write import pack as write_archive
from cache.compiled.warm_record import FOLDER, WarmRecord, read_records
from cache.errors import ArchiveError
from rules.errors import ErrorKind, TunerError
from rules.releases import public_version
from tuner.compile_cache.called import listed_records, records_called
from tuner.compile_cache.size import size_text
from tuner.environment.environment import Environment
from tuner.environment.saved import serving_environment

SCHEMA_VERSION = 1
"""Of both JSON documents."""
_FACTORS = ("vllm", "torch", "platform", "gpu")
"""Facts of a record in which the environment must agree.

vLLM itself need not notice: the key of an ahead-of-time artifact holds torch and the GPU only in its mega form, the
default from 0.27.1 on with torch 2.12 (vllm/compilation/caching.py, aot_compile_hash_factors)."""


@dataclass(frozen=True)
class ServingEnvironment:
    """Where an archive will be used; see `tuner.cli.inputs.Inputs`."""

    python: str | None = None
    saved: Path | None = None


def pack(root: Path, archive: Path, names: Sequence[str]) -> Manifest:
    """Write an archive of the warm-ups that the words name (`records_called`); without any, of all below a cache root.

    Raises:
        TunerError: there is no such warm-up, or its entries cannot be packed.
    """
    with _failures(f"The cache below {root} is not packed"):
        return write_archive(root, archive, _chosen(root, names))


def unpack(
    archive: Path, root: Path, serving: ServingEnvironment, *, force: bool
) -> tuple[Manifest, Unpacked, tuple[str, ...]]:
    """Put an archive's entries and records below a cache root.

    Returns:
        What it holds, what became of it, and in what it differs from the environment; the last is empty unless forced.

    Raises:
        TunerError: the archive is damaged or hostile, or was made for another environment and nothing is forced.
    """
    with _failures(f"{archive} is refused"), opened(archive) as read:
        differing = _differing(read.manifest.records, serving, force=force)
        if differing and not force:
            raise _elsewhere(archive, differing)
        return read.manifest, put_in_place(read, root), differing


def differences(records: Sequence[WarmRecord], environment: Environment) -> tuple[str, ...]:
    """A sentence for each fact in which a warm-up's environment was another one; empty if all agree."""
    sentences = []
    for name in _FACTORS:
        here = _fact(environment, name)
        for other in sorted({_fact(record, name) for record in records} - {here}):
            sentences.append(f"{name} is {here} here, and {other} in the archive")  # noqa: PERF401  two loops
    return tuple(sentences)


def _fact(subject: WarmRecord | Environment, name: str) -> str:
    value = getattr(subject, name)
    if value is None:
        return "none"
    return public_version(value) if name == "vllm" else str(value)


def _differing(records: Sequence[WarmRecord], serving: ServingEnvironment, *, force: bool) -> tuple[str, ...]:
    try:
        environment, _ = serving_environment(serving.python, serving.saved)
    except TunerError as error:
        if not force:
            raise
        return (f"the environment is not known: {error.message}",)
    return differences(records, environment)


def _elsewhere(archive: Path, differing: Sequence[str]) -> TunerError:
    hint = (
        "Where this is not the machine that will serve, describe that one: `tuner env --json > FILE` there, then "
        "--environment FILE. --force unpacks nevertheless; at best vLLM then compiles again."
    )
    message = f"{archive} was made for another environment: {'; '.join(differing)}."
    return TunerError(message, hint=hint, kind=ErrorKind.MISMATCH)


def _chosen(root: Path, names: Sequence[str]) -> list[WarmRecord]:
    records, damaged = read_records(root)
    if names:
        chosen = [record for name in names for record in _records_of(root, records, name)]
        return list({record.digest: record for record in chosen}.values())
    if damaged:
        hint = "Remove it, or choose records with --record."
        raise ArchiveError(f"{FOLDER}/{damaged[0]!r:.80} is not a record of a warm-up", hint=hint)
    if not records:
        raise ArchiveError("no warm-up is recorded there", hint="Make one with `tuner cache warm MODEL`.")
    return list({record.digest: record for record in records}.values())


def _records_of(root: Path, records: Sequence[WarmRecord], name: str) -> list[WarmRecord]:
    """Every record of a model; one alone where the word is the start of a digest."""
    fitting = records_called(records, name)
    by_digest = all(record.digest.startswith(name.lower()) for record in fitting)
    if not fitting or (by_digest and len(fitting) > 1):
        hint = f"Those in {root / FOLDER}:\n{listed_records(fitting or records)}"
        raise ArchiveError(f"{len(fitting) or 'no'} records are called {name!r:.80}", hint=hint)
    return fitting


@contextmanager
def _failures(subject: str) -> Iterator[None]:
    """Turn what can go wrong into one sentence that begins with the subject."""
    try:
        yield
    except ArchiveError as error:
        raise TunerError(f"{subject}: {error.message}.", hint=error.hint, kind=ErrorKind.ARCHIVE) from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        where = getattr(error, "filename", None) or subject
        raise TunerError(f"{where}: {getattr(error, 'strerror', None) or error}.", kind=ErrorKind.ARCHIVE) from None


def packed_document(root: Path, archive: Path, manifest: Manifest) -> dict[str, Any]:
    """What `tuner cache pack --json` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "archive": str(archive),
        "archive_bytes": archive.stat().st_size,
        "cache_root": str(root),
        "made_at": manifest.made_at,
        "records": list(map(attrgetter("digest"), manifest.records)),
        "entries": list(manifest.entries),
        "files": len(manifest.files),
        "bytes": manifest.size,
    }


def packed_text(archive: Path, manifest: Manifest) -> str:
    """What `tuner cache pack` prints."""
    inside = f"{len(manifest.files)} files, {size_text(manifest.size)}, in {size_text(archive.stat().st_size)}"
    return "\n".join([f"{archive}: {inside}", *map(_warm_up, manifest.records), *_lines("entry", manifest.entries)])


def unpacked_document(
    root: Path, archive: Path, manifest: Manifest, unpacked: Unpacked, differing: Sequence[str]
) -> dict[str, Any]:
    """What `tuner cache unpack --json` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "archive": str(archive),
        "cache_root": str(root),
        "made_at": manifest.made_at,
        "entries": list(unpacked.entries),
        "records": list(unpacked.records),
        "already_there": list(unpacked.present),
        "differences": list(differing),
    }


def unpacked_text(root: Path, manifest: Manifest, unpacked: Unpacked) -> str:
    """What `tuner cache unpack` prints."""
    new = [
        *_lines("unpacked", (*unpacked.entries, *unpacked.records)),
        *_lines("already there, left as it is", unpacked.present),
    ]
    return "\n".join([f"{root}:", *map(_warm_up, manifest.records), *new])


def _warm_up(record: WarmRecord) -> str:
    where = ", ".join(filter(None, [f"vLLM {record.vllm}", f"torch {record.torch}", record.platform, record.gpu]))
    return f"  warm-up {record.digest[:12]} of {record.model}: {where}"


def _lines(label: str, paths: Sequence[str]) -> list[str]:
    return list(map(f"  {label}: {{}}".format, paths))
