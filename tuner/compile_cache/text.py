"""What `tuner cache` prints: text for people, versioned JSON documents. Pure.

Names in a cache root are text of anybody: what would move the cursor or change colours is written as an escape. Of the
factors that vLLM wrote only the hashes are shown: the rest may hold secrets.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cache.compiled.entry import CacheEntry
from cache.compiled.layout import CacheRoot
from cache.compiled.prune import Candidate
from cache.compiled.scan import ScanFinding, ScanLevel
from cache.compiled.warm_record import WarmRecord
from tuner.compile_cache.prune import Pruned
from tuner.compile_cache.size import size_text
from tuner.text import columns, line, visible

SCHEMA_VERSION = 1
"""Of the documents; changed when a field is removed or means something else."""
_HASHES = ("config_hash", "code_hash", "compiler_hash")
_READS = {
    "always": "reads count",
    "daily": "reads count once a day",
    "never": "reads are not noted here, writings alone count",
}
_STATES = {True: "complete", False: "unfinished", None: "not known"}


def root_text(root: CacheRoot, now: float) -> str:
    """What `tuner cache list` prints: the entries, then what lies beside them, then totals and notes."""
    heads = ("KIND", "NAME", "MODEL", "VLLM", "GPU", "AGE", "LAST USE", "SIZE", "STATE", "LAUNCH")
    entries = [columns([heads, *(_row(root, entry, now) for entry in root.entries)])] if root.entries else []
    beside = [(visible(one.path), size_text(one.size), _counted(one.files, "file")) for one in root.beside]
    tables = [*entries, *([columns([("BESIDE", "SIZE", ""), *beside])] if beside else [])]
    return "\n\n".join([*tables, "\n".join(_totals(root))])


def _row(root: CacheRoot, entry: CacheEntry, now: float) -> tuple[str, ...]:
    launches = root.launches(entry)
    return (
        str(entry.kind),
        entry.name[:12],
        *(_cell(launches[0]) if launches else ("-", "-", "-")),
        span_text(now - entry.made),
        span_text(now - entry.used),
        size_text(entry.size),
        _STATES[entry.complete] + (f": {entry.why}" if entry.why else ""),
        visible(launches[0].digest[:12]) + (f" +{len(launches) - 1}" if launches[1:] else "") if launches else "-",
    )


def _cell(record: WarmRecord) -> tuple[str, str, str]:
    return visible(record.model), visible(record.vllm), visible(record.gpu or "-")


def _totals(root: CacheRoot) -> Iterator[str]:
    yield line("root", visible(str(root.path)))
    yield line("total", f"{_counted(len(root.entries), 'entry', 'entries')}, {size_text(root.size)}")
    yield line("", f"beside them {size_text(sum(one.size for one in root.beside))}")
    yield line("last use", _READS[root.noted_reads])
    yield from (line("note", visible(note)) for note in _notes(root))


def _notes(root: CacheRoot) -> Iterator[str]:
    for record in root.records:
        if missing := root.missing(record):
            gone = ", ".join(missing)
            yield f"the record {record.digest[:12]} of {record.model} names what is not there: {gone}"
    yield from (f"no record of a warm-up: {name} is damaged" for name in root.damaged_records)
    for entry in root.entries:
        yield from (f"{entry.path}/{name} is damaged" for name in entry.damaged)
        yield from (f"{path} was left over" for path in entry.leftovers)
    yield from (f"{path} could not be read" for path in root.listing.unread)


def root_document(root: CacheRoot) -> dict[str, Any]:
    """The document of `tuner cache list --json`; times are ISO 8601 in UTC, sizes are bytes."""
    return {
        "schema_version": SCHEMA_VERSION,
        "root": str(root.path),
        "reads_noted": root.noted_reads,
        "entries": [_entry_part(root, entry) for entry in root.entries],
        "beside": [{"path": one.path, "bytes": one.size, "files": one.files} for one in root.beside],
        "records": [_record_part(record) | {"missing": root.missing(record)} for record in root.records],
        "damaged_records": list(root.damaged_records),
        "unread": list(root.listing.unread),
        "totals": {
            "entries": len(root.entries),
            "bytes": root.size,
            "beside_bytes": sum(one.size for one in root.beside),
        },
    }


def _entry_part(root: CacheRoot, entry: CacheEntry) -> dict[str, Any]:
    return {
        "kind": str(entry.kind),
        "path": entry.path,
        "name": entry.name,
        "ranks": list(entry.ranks),
        "bytes": entry.size,
        "files": entry.files,
        "made": _time(entry.made),
        "last_used": _time(entry.used),
        "complete": entry.complete,
        "why": entry.why,
        "leftovers": list(entry.leftovers),
        "hashes": {place: {name: told.get(name) for name in _HASHES} for place, told in entry.factors.items()},
        "damaged": list(entry.damaged),
        "launches": [_record_part(record) for record in root.launches(entry)],
    }


def _record_part(record: WarmRecord) -> dict[str, Any]:
    names = ("digest", "made_at", "model", "architecture", "vllm", "torch", "platform", "gpu")
    return {name: getattr(record, name) for name in names}


def scan_text(root: CacheRoot, findings: Sequence[ScanFinding]) -> str:
    """One line a finding with its hint below, and what was looked at."""
    said = [
        f"{visible(one.path)}: {one.level}: {visible(one.message)} ({one.matter})\n  {one.hint}" for one in findings
    ]
    looked = f"{_counted(len(root.listing.items), 'file, folder or link', 'files, folders and links')} looked at"
    return "\n".join([*said, f"{_counted(len(findings), 'finding')}; {looked} in {visible(str(root.path))}"])


def scan_document(root: CacheRoot, findings: Sequence[ScanFinding]) -> dict[str, Any]:
    """The document of `tuner cache scan --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "root": str(root.path),
        "findings": [
            {
                "matter": str(one.matter),
                "level": str(one.level),
                "path": one.path,
                "count": one.count,
                "message": one.message,
                "hint": one.hint,
            }
            for one in findings
        ],
        "summary": {
            "items": len(root.listing.items),
            **{str(level): sum(one.level is level for one in findings) for level in ScanLevel},
        },
    }


def pruned_text(pruned: Pruned) -> str:
    """One line a thing that went or stayed, and a line that sums up."""
    verb = "would go" if pruned.dry else "gone"
    rows = [(verb, *_told(one)) for one in pruned.gone]
    rows += [(verb, visible(path), "", "names what goes") for path in pruned.records]
    rows += [("stays", *_told(one)) for one in pruned.pruning.staying]
    freed = size_text(sum(one.size for one in pruned.gone))
    things = f"{_counted(len(pruned.gone), 'thing')}, {freed}, {verb}; entries were {size_text(pruned.root.size)}"
    return "\n".join([*([columns(rows)] if rows else []), things])


def pruned_document(pruned: Pruned) -> dict[str, Any]:
    """The document of `tuner cache prune --json`."""
    gone = [_candidate_part(one) for one in pruned.gone]
    return {
        "schema_version": SCHEMA_VERSION,
        "root": str(pruned.root.path),
        "dry_run": pruned.dry,
        "removed": gone,
        "kept": [_candidate_part(one) for one in pruned.pruning.staying],
        "failed": [_candidate_part(one) for one in pruned.failed],
        "records_removed": pruned.records,
        "freed_bytes": sum(one["bytes"] for one in gone),
        "notes": list(pruned.pruning.notes),
    }


def _candidate_part(one: Candidate) -> dict[str, Any]:
    return {"path": one.path, "bytes": one.size, "why": one.why}


def _told(one: Candidate) -> tuple[str, str, str]:
    return visible(one.path), size_text(one.size), visible(one.why)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def span_text(seconds: float) -> str:
    """A span of time by its largest unit: days, hours, minutes or seconds."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
