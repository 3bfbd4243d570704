"""Stored verdicts: look one up, explain a miss, remember a report."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cache.entry import Entry
from cache.errors import StoreError
from cache.store import VerdictStore
from rules.verdict import Verdict
from tuner.identity import MISSING, Subject, base_factors, full_key, hash_sources, rules_digest


@dataclass(frozen=True)
class LookUp:
    """The answer to a look-up.

    Attributes:
        entry: the stored entry; None for a miss.
        verdict: its verdict, judged by the current rules; None for a miss.
        miss: why nothing was found; sentences, empty for a hit.
        verified: whether the source files behind the verdict were hashed again and are unchanged. False only for
            an environment known from a saved file.
    """

    entry: Entry | None
    verdict: Verdict | None
    miss: tuple[str, ...] = ()
    verified: bool = True


def look_up(store: VerdictStore, subject: Subject, *, files_at_hand: bool = True) -> LookUp:
    """The stored verdict for exactly this model in exactly this environment.

    Args:
        store: where to look.
        subject: what to look for.
        files_at_hand: the environment's source files can be read here.

    Raises:
        StoreError: the store or the record is damaged.
    """
    base = base_factors(subject)
    files = store.sources(base)
    if files is None:
        return LookUp(None, None, _explained(store, base))
    if not files_at_hand:
        return _unverified(store, base)
    sources = hash_sources(subject.environment, files)
    entry = store.get(full_key(base, sources))
    if entry is None:
        return LookUp(None, None, _changed_sources(store, base, sources))
    return LookUp(entry, current_verdict(store, entry))


def remember(store: VerdictStore, subject: Subject, report: Mapping[str, Any]) -> tuple[Entry, Verdict]:
    """Judge a report and store both.

    Raises:
        ReportError: the report is damaged; nothing is stored.
        StoreError: the store cannot be written.
    """
    verdict = _judged(report)
    entry = Entry(
        key=full_key(base_factors(subject), dict(report["sources"])),
        sources=dict(report["sources"]),
        report=dict(report),
        verdict=verdict.to_dict(),
        rules=rules_digest(),
        probed_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    store.put(entry)
    return entry, verdict


def current_verdict(store: VerdictStore, entry: Entry) -> Verdict:
    """The entry's verdict; judged again from its report if the rules have changed since.

    A new judgement is written back where the store can be written; where not, it is made again next time.
    """
    rules = rules_digest()
    if entry.rules == rules:
        return Verdict.from_dict(entry.verdict)
    verdict = _judged(entry.report)
    with suppress(StoreError):
        store.put(replace(entry, verdict=verdict.to_dict(), rules=rules))
    return verdict


def _judged(report: Mapping[str, Any]) -> Verdict:
    # Only here does the host need pydantic: a look-up must not pay for it.
    from rules.judge import judge  # noqa: PLC0415
    from rules.report import parse_report  # noqa: PLC0415

    return judge(parse_report(report))


def _unverified(store: VerdictStore, base: Mapping[str, Any]) -> LookUp:
    found = store.nearest(base, str(base["architecture"]))
    if found is None or found[1] != ("sources",):
        return LookUp(None, None, _explained(store, base))
    return LookUp(found[0], current_verdict(store, found[0]), verified=False)


def _explained(store: VerdictStore, base: Mapping[str, Any]) -> tuple[str, ...]:
    """Why there is no entry: the factors in which the nearest one differs."""
    found = store.nearest(base, str(base["architecture"]))
    if found is None:
        return (f"no verdict is stored for {base['architecture']}",)
    entry, names = found
    changes = [_change(name, entry.key.get(name), base.get(name)) for name in names if name != "sources"]
    return (f"the nearest stored verdict, {entry.digest[:12]}, differs in {'; '.join(changes)}",)


def _change(name: str, stored: object, wanted: object) -> str:
    short = [
        str(value)[:12] if name in {"fingerprint", "worker", "remote_code"} else str(value)
        for value in (stored, wanted)
    ]
    return f"{name} (stored: {short[0] or 'none'}, here: {short[1] or 'none'})"


def _changed_sources(store: VerdictStore, base: Mapping[str, Any], sources: Mapping[str, str]) -> tuple[str, ...]:
    found = store.nearest({**base, "sources": ""}, str(base["architecture"]))
    stored = found[0].sources if found else {}
    changed = [file for file, sha in sources.items() if stored.get(file) != sha]
    gone = [file for file in changed if sources[file] == MISSING]
    said = f"{len(changed)} source files behind the stored verdict have changed, first {changed[0]}" if changed else ""
    return (said + (f" ({len(gone)} of them are gone)" if gone else ""),)
