"""Stored verdicts: look one up, explain a miss, remember a report."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cache.entry import Entry
from cache.errors import StoreError
from cache.store import VerdictStore
from rules.errors import RuleError
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

    Raises:
        ReportError: it must be judged again, and the report is one that the current rules cannot read.
        StoreError: the stored verdict is damaged.
    """
    rules = rules_digest()
    if entry.rules == rules:
        return _stored_verdict(entry)
    verdict = _judged(entry.report)
    with suppress(StoreError):
        store.put(replace(entry, verdict=verdict.to_dict(), rules=rules))
    return verdict


def known_verdict(store: VerdictStore, entry: Entry) -> Verdict:
    """As `current_verdict`, for showing: a report that only other rules can read leaves their verdict standing.

    Raises:
        StoreError: the stored verdict is damaged.
    """
    try:
        return current_verdict(store, entry)
    except RuleError:
        return _stored_verdict(entry)


def _stored_verdict(entry: Entry) -> Verdict:
    try:
        return Verdict.from_dict(entry.verdict)
    except (KeyError, TypeError, ValueError):
        raise StoreError(
            f"The stored verdict {entry.digest[:12]} is damaged.",
            hint=f"Remove it with `tuner verdicts forget {entry.digest[:12]}`, then probe the model again.",
        ) from None


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
    if name in DIGESTS:
        return DIGESTS[name]
    return f"{name} (stored: {stored or 'none'}, here: {wanted or 'none'})"


DIGESTS = {
    "fingerprint": "the model's configuration",
    "remote_code": "the model's own code, or the leave to run it",
    "worker": "the probe itself (by another release of this tool)",
}
"""Factors whose values tell a reader nothing."""


def _changed_sources(store: VerdictStore, base: Mapping[str, Any], sources: Mapping[str, str]) -> tuple[str, ...]:
    """Why the entry does not apply here: the source files that differ from those it was probed with."""
    found = store.nearest(base, str(base["architecture"]))
    if found is None or found[1] != ("sources",):  # its entry was forgotten, and the file list stayed
        return _explained(store, base)
    stored = found[0].sources
    changed = [file for file in sorted({*stored, *sources}) if stored.get(file) != sources.get(file)]
    gone = sum(sources.get(file) == MISSING for file in changed)
    said = f"of the {len(stored)} source files behind the stored verdict {len(changed)} differ here"
    return (f"{said}, first {changed[0]}" + (f"; {gone} of them are gone" if gone else ""),)
