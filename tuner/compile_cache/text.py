"""What `tuner cache` prints: text for people, versioned JSON documents. Pure.

Names in a cache root are text of anybody: what would move the cursor or change colours is written as an escape. Of the
factors that vLLM wrote only the hashes are shown: the rest may hold secrets.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from typing import Any

from cache.compiled.entry import CacheEntry
from cache.compiled.layout import CacheRoot, StrayItem
from cache.compiled.prune import Candidate
from cache.compiled.scan import ScanFinding, ScanLevel
from cache.compiled.warm_record import WarmRecord
from tuner.compile_cache.prune import Pruned
from tuner.compile_cache.size import size_text
from tuner.text import columns, counted, line, visible

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
    tables = []
    if root.entries:
        heads = ("KIND", "NAME", "MODEL", "VLLM", "GPU", "AGE", "LAST USE", "SIZE", "STATE", "LAUNCH")
        tables.append(columns([heads, *map(partial(_row, root, now), root.entries)]))
    if root.beside:
        tables.append(columns([("BESIDE", "SIZE", ""), *map(_stray_row, root.beside)]))
    return "\n\n".join([*tables, "\n".join(_totals(root))])


def _stray_row(stray: StrayItem) -> tuple[str, str, str]:
    return stray.path, size_text(stray.size), counted(stray.files, "file")


def _row(root: CacheRoot, now: float, entry: CacheEntry) -> tuple[str, ...]:
    model, vllm, gpu, launch = _launch_cells(root.launches(entry))
    state = _STATES[entry.complete]
    return (
        str(entry.kind),
        entry.name[:12],
        model,
        vllm,
        gpu,
        span_text(now - entry.written),
        span_text(now - entry.used),
        size_text(entry.size),
        f"{state}: {entry.why}" if entry.why else state,
        launch,
    )


def _launch_cells(records: Sequence[WarmRecord]) -> tuple[str, str, str, str]:
    """Model, vLLM and GPU of the newest warm-up of an entry, and its digest with the number of further ones."""
    if not records:
        return "-", "-", "-", "-"
    newest = records[0]
    launch = newest.digest[:12]
    if len(records) > 1:
        launch += f" +{len(records) - 1}"
    return newest.model, newest.vllm, newest.gpu or "-", launch


def _totals(root: CacheRoot) -> Iterator[str]:
    yield line("root", root.path)
    yield line("total", f"{counted(len(root.entries), 'entry', 'entries')}, {size_text(root.size)}")
    yield line("", f"beside them {size_text(_total(root.beside))}")
    yield line("last use", _READS[root.noted_reads])
    for note in _notes(root):
        yield line("note", note)


def _total(things: Iterable[StrayItem | Candidate]) -> int:
    """Bytes in all of them."""
    return sum(thing.size for thing in things)


def _notes(root: CacheRoot) -> Iterator[str]:
    for record in root.records:
        if missing := root.missing(record):
            yield f"the record {record.digest[:12]} of {record.model} names what is not there: {', '.join(missing)}"
    yield from map("no record of a warm-up: {} is damaged".format, root.damaged_records)
    for entry in root.entries:
        for name in entry.damaged:
            yield f"{entry.path}/{name} is damaged"
        yield from map("{} was left over".format, entry.leftovers)
    yield from map("{} could not be read".format, root.listing.unread)


def root_document(root: CacheRoot) -> dict[str, Any]:
    """The document of `tuner cache list --json`; times are ISO 8601 in UTC, sizes are bytes."""
    return {
        "schema_version": SCHEMA_VERSION,
        "root": str(root.path),
        "reads_noted": root.noted_reads,
        "entries": list(map(partial(_entry_part, root), root.entries)),
        "beside": list(map(_stray_part, root.beside)),
        "records": [_record_part(record) | {"missing": root.missing(record)} for record in root.records],
        "damaged_records": list(root.damaged_records),
        "unread": list(root.listing.unread),
        "totals": {
            "entries": len(root.entries),
            "bytes": root.size,
            "beside_bytes": _total(root.beside),
        },
    }


def _stray_part(stray: StrayItem) -> dict[str, Any]:
    return {"path": stray.path, "bytes": stray.size, "files": stray.files}


def _entry_part(root: CacheRoot, entry: CacheEntry) -> dict[str, Any]:
    return {
        "kind": str(entry.kind),
        "path": entry.path,
        "name": entry.name,
        "ranks": list(entry.ranks),
        "bytes": entry.size,
        "files": entry.files,
        "made": _time(entry.written),
        "last_used": _time(entry.used),
        "complete": entry.complete,
        "why": entry.why,
        "leftovers": list(entry.leftovers),
        "hashes": {path: _hashes(factors) for path, factors in entry.factors.items()},
        "damaged": list(entry.damaged),
        "launches": list(map(_record_part, root.launches(entry))),
    }


def _hashes(factors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: factors.get(name) for name in _HASHES}


def _record_part(record: WarmRecord) -> dict[str, Any]:
    names = ("digest", "made_at", "model", "architecture", "vllm", "torch", "platform", "gpu")
    return {name: getattr(record, name) for name in names}


def scan_text(root: CacheRoot, findings: Sequence[ScanFinding]) -> str:
    """One line a finding with its hint below, and what was looked at."""
    looked = f"{counted(len(root.listing.items), 'file, folder or link', 'files, folders and links')} looked at"
    return "\n".join(
        [*map(_finding_text, findings), f"{counted(len(findings), 'finding')}; {looked} in {visible(str(root.path))}"]
    )


def _finding_text(finding: ScanFinding) -> str:
    place, message = visible(finding.path), visible(finding.message)
    return f"{place}: {finding.level}: {message} ({finding.matter})\n  {finding.hint}"


def scan_document(root: CacheRoot, findings: Sequence[ScanFinding]) -> dict[str, Any]:
    """The document of `tuner cache scan --json`."""
    counts = Counter(map(attrgetter("level"), findings))
    return {
        "schema_version": SCHEMA_VERSION,
        "root": str(root.path),
        "findings": list(map(_finding_part, findings)),
        "summary": {"items": len(root.listing.items)} | {str(level): counts[level] for level in ScanLevel},
    }


def _finding_part(finding: ScanFinding) -> dict[str, Any]:
    return {
        "matter": str(finding.matter),
        "level": str(finding.level),
        "path": finding.path,
        "count": finding.count,
        "message": finding.message,
        "hint": finding.hint,
    }


def pruned_text(pruned: Pruned) -> str:
    """One line for each thing that goes or stays, and a line with the sum."""
    verb = "would go" if pruned.dry else "gone"
    rows = [(verb, *_candidate_cells(candidate)) for candidate in pruned.removed]
    rows += [(verb, path, "", "names what goes") for path in pruned.records]
    rows += [("stays", *_candidate_cells(candidate)) for candidate in pruned.pruning.staying]
    freed, total = size_text(_total(pruned.removed)), size_text(pruned.root.size)
    summary = f"{counted(len(pruned.removed), 'thing')}, {freed}, {verb}; entries were {total}"
    return f"{columns(rows)}\n{summary}" if rows else summary


def pruned_document(pruned: Pruned) -> dict[str, Any]:
    """The document of `tuner cache prune --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "root": str(pruned.root.path),
        "dry_run": pruned.dry,
        "removed": list(map(_candidate_part, pruned.removed)),
        "kept": list(map(_candidate_part, pruned.pruning.staying)),
        "failed": list(map(_candidate_part, pruned.failed)),
        "records_removed": pruned.records,
        "freed_bytes": _total(pruned.removed),
        "notes": list(pruned.pruning.notes),
    }


def _candidate_part(candidate: Candidate) -> dict[str, Any]:
    return {"path": candidate.path, "bytes": candidate.size, "why": candidate.why}


def _candidate_cells(candidate: Candidate) -> tuple[str, str, str]:
    return candidate.path, size_text(candidate.size), candidate.why


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def span_text(seconds: float) -> str:
    """A span of time by its largest unit: days, hours, minutes or seconds."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
