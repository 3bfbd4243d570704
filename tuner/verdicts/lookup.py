"""Stored verdicts: look one up, explain a miss, remember a report."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct, ValidationError, convert
from msgspec.structs import replace

from cache.errors import StoreError
from cache.key import differences
from cache.verdicts.entry import Entry, ProbeOrigin
from cache.verdicts.paths import store_path
from cache.verdicts.store import VerdictStore
from rules.errors import ReportError
from rules.proof_finding import PLAIN
from rules.reason import Reason, reason
from rules.releases import public_version
from rules.report import Report, parse_report
from rules.verdict import Verdict, Word
from tuner.environment.plugins import UNKNOWN, unknown_plugins
from tuner.model.model import Model
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import MISSING, Subject, base_factors, full_key, hash_sources, rules_digest
from tuner.verdicts.proofs import outdated, stored_proof


def look_up(
    store: VerdictStore, subject: Subject, *, files_at_hand: bool = True, accept_platform: str | None = None
) -> LookUp:
    """The stored verdict for exactly this model in exactly this environment.

    Of several that apply, one that was probed here comes before an imported one, and a later one before an earlier.

    Args:
        store: where to look.
        subject: what to look for.
        files_at_hand: the environment's source files can be read here.
        accept_platform: a platform whose verdict may stand in where there is none of the environment's own. Then,
            and only then, versions are compared without their local part.

    Raises:
        StoreError: the store or the record is damaged.
        ReportError: as `current_verdict`.
    """
    unknown = unknown_plugins(subject.environment.plugins)
    if unknown:
        return LookUp(None, None, (_not_compared(unknown),))
    base = base_factors(subject)
    lookup = _on_its_platform(store, subject, base, files_at_hand)
    if lookup.entry is not None or not accept_platform:
        return lookup
    if accept_platform == base["platform"]:
        return _also_missed(lookup, reason("platform_is_own", platform=accept_platform))
    return _on_another_platform(store, subject, base | {"platform": accept_platform}, files_at_hand, lookup)


def remember(store: VerdictStore, subject: Subject, report: Mapping[str, Any]) -> tuple[Entry, Verdict]:
    """Judge a report and store both, with the proofs that are stored beside an earlier report of the same key.

    Raises:
        ReportError: the report is damaged; nothing is stored.
        StoreError: the store cannot be written.
    """
    verdict = judged(parse_report(report))
    entry = Entry(
        key=full_key(base_factors(subject), dict(report["sources"])),
        sources=dict(report["sources"]),
        report=dict(report),
        verdict=verdict.to_dict(),
        rules=rules_digest(),
        probed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        origin=probe_origin(subject.model),
    )
    try:
        return _updated(store, entry, lambda earlier: _with_earlier_proofs(store, entry, earlier), latest=True)
    except (ReportError, StoreError):  # what is stored is damaged, and must not keep the new report out
        store.put(entry)
        return entry, verdict


def probe_origin(model: Model) -> ProbeOrigin:
    """What a probe of a model on this machine notes of it: a model of the hub has a commit, and no file here."""
    from_hub = model.revision is not None
    return ProbeOrigin(
        name=model.name if from_hub else Path(model.folder).name,
        file=None if from_hub else model.name,
        host=os.uname().nodename,
    )


def remember_proofs(store: VerdictStore, entry: Entry, proofs: Sequence[Mapping[str, Any]]) -> tuple[Entry, Verdict]:
    """Put proofs of launches beside what the probe saw, each in place of an earlier one of the same launch.

    Proofs that another process stores meanwhile stay.

    Args:
        store: where the entry is.
        entry: the verdict on the model's code.
        proofs: what the traces of launches showed (`rules.report.Proof`).

    Raises:
        ReportError: a proof is damaged; nothing is stored.
        StoreError: the store or the entry in it cannot be used.
    """
    return _updated(store, entry, lambda stored: _with_proofs(store, stored or entry, proofs))


def _updated(
    store: VerdictStore, entry: Entry, change: Callable[[Entry | None], Entry], *, latest: bool = False
) -> tuple[Entry, Verdict]:
    """Change what is stored for an entry's key, however many processes do so at the same time.

    Args:
        store: where it is stored.
        entry: whose key is meant.
        change: makes the new entry of the stored one, and may be asked again.
        latest: as for `VerdictStore.merge`.
    """
    for _ in range(ATTEMPTS):
        unchanged = _Unchanged(store.get(entry.key))
        changed = change(unchanged.before)
        store.merge([changed], unchanged, latest=latest)
        if unchanged.holds:
            return changed, _stored_verdict(store, changed)
    raise StoreError(
        f"The stored verdict {entry.digest[:12]} is changed again and again by other processes.", hint="Try again."
    )


class _Unchanged(Struct):
    """Whether what is stored is still what was read before; asked by `VerdictStore.merge`, and keeps its answer."""

    before: Entry | None
    holds: bool = False

    def __call__(self, now: Entry | None, _: Entry) -> bool:
        self.holds = now == self.before
        return self.holds


def _with_earlier_proofs(store: VerdictStore, entry: Entry, earlier: Entry | None) -> Entry:
    """The entry with the proofs and ladders of an earlier one, but the proofs of launches that it proves itself."""
    before = _proofs(store, earlier) if earlier else []
    ladders = _ladders(store, earlier) if earlier else []
    if ladders:
        entry = _with(entry, "ladders", ladders)
    if not before:
        return entry
    with_before = replace(entry, report={**entry.report, "proofs": before})
    return _with_proofs(store, with_before, _proofs(store, entry))


def _with_proofs(store: VerdictStore, entry: Entry, proofs: Sequence[Mapping[str, Any]]) -> Entry:
    new = [dict(proof) for proof in proofs]
    keys = {proof.get("key") for proof in new}
    others = [proof for proof in _proofs(store, entry) if proof.get("key") not in keys]
    return _with(entry, "proofs", [*others, *new])


def remember_ladder(store: VerdictStore, entry: Entry, ladder: Mapping[str, Any]) -> tuple[Entry, Verdict]:
    """Put the ladder of a launch beside what the probe saw, in place of an earlier one of the same launch.

    Args:
        store: where the entry is.
        entry: the verdict on the model's code.
        ladder: what the arms showed (`rules.report.Ladder`).

    Raises:
        ReportError: the ladder is damaged; nothing is stored.
        StoreError: the store or the entry in it cannot be used.
    """

    def with_ladder(stored: Entry | None) -> Entry:
        current = stored or entry
        others = [other for other in _ladders(store, current) if other.get("key") != ladder["key"]]
        return _with(current, "ladders", [*others, dict(ladder)])

    return _updated(store, entry, with_ladder)


def _ladders(store: VerdictStore, entry: Entry) -> list[dict[str, Any]]:
    try:
        return convert(entry.report.get("ladders", []), list[dict[str, Any]])
    except ValidationError:
        raise _damaged(store, entry) from None


def _with(entry: Entry, field: str, value: object) -> Entry:
    """The entry with another field in its report, judged anew."""
    report = {**entry.report, field: value}
    return replace(entry, report=report, verdict=judged(parse_report(report)).to_dict(), rules=rules_digest())


def _proofs(store: VerdictStore, entry: Entry) -> list[dict[str, Any]]:
    try:
        return convert(entry.report.get("proofs", []), list[dict[str, Any]])
    except ValidationError:
        raise _damaged(store, entry) from None


def remember_replays(store: VerdictStore, entry: Entry, engines: Sequence[Mapping[str, Any]]) -> tuple[Entry, Verdict]:
    """Put what engines showed beside what the probe saw, in place of earlier ones, and judge both together.

    Args:
        store: where the entry is.
        entry: the verdict on the model's code.
        engines: what they showed (`rules.report.Replay`).

    Raises:
        ReportError: what the engines showed is damaged; nothing is stored.
        StoreError: the store or the entry in it cannot be used.
    """
    replays = [dict(engine) for engine in engines]
    return _updated(store, entry, lambda stored: _with(stored or entry, "replays", replays))


def current_verdict(store: VerdictStore, entry: Entry) -> Verdict:
    """The entry's verdict; judged again from its report if the rules have changed since.

    A new judgement is written back where the store can be written; where not, it is made again next time.

    Raises:
        ReportError: it must be judged again, and the report is one that the current rules cannot read.
        StoreError: the stored verdict is damaged.
    """
    return current_report(store, entry)[1]


def current_report(store: VerdictStore, entry: Entry) -> tuple[Report, Verdict]:
    """The entry's report, and its verdict as `current_verdict` gives it.

    Raises:
        ReportError, StoreError: as `current_verdict`.
    """
    rules = rules_digest()
    if entry.rules == rules:
        return _stored_report(store, entry), _stored_verdict(store, entry)
    report = parse_report(entry.report)
    verdict = judged(report)
    with suppress(StoreError):
        renewed = replace(entry, verdict=verdict.to_dict(), rules=rules)
        store.merge([renewed], lambda stored, _: stored == entry)  # not over what was probed or forgotten meanwhile
    return report, verdict


def known_verdict(store: VerdictStore, entry: Entry) -> Verdict:
    """As `current_verdict`, for showing: a report that only other rules can read leaves their verdict standing.

    Raises:
        StoreError: the stored verdict is damaged.
    """
    try:
        return current_verdict(store, entry)
    except ReportError:
        return _stored_verdict(store, entry)


def readable_verdict(store: VerdictStore, entry: Entry) -> Verdict | None:
    """As `known_verdict`; None for an entry that an older release wrote, or that is damaged."""
    try:
        return known_verdict(store, entry)
    except StoreError:
        return None


def _stored_report(store: VerdictStore, entry: Entry) -> Report:
    """A report that the rules of this release have judged: if they cannot read it, it was changed since."""
    try:
        return parse_report(entry.report)
    except ReportError:
        raise _damaged(store, entry) from None


def _stored_verdict(store: VerdictStore, entry: Entry) -> Verdict:
    try:
        return Verdict.from_dict(entry.verdict)
    except ValueError:
        raise _damaged(store, entry) from None


def _damaged(store: VerdictStore, entry: Entry) -> StoreError:
    forget = store.place.command("verdicts", "forget", entry.digest[:12])
    return StoreError(
        f"The stored verdict {entry.digest[:12]} is damaged, or an older release of the tool wrote it.",
        hint=f"Remove it with `{forget}`, then probe the model again.",
    )


def judged(report: Report) -> Verdict:
    """The verdict on a report, by the rules of this release."""
    from rules.judge import judge  # noqa: PLC0415  most look-ups find a verdict of these rules

    return judge(report)


def _on_its_platform(store: VerdictStore, subject: Subject, base: dict[str, Any], files_at_hand: bool) -> LookUp:
    """By the files that the latest probe of these factors named; then by those that each entry names itself."""
    files = store.sources(base)
    if files is None:
        return LookUp(None, None, _explained(store, base))
    sources = hash_sources(subject.environment, files) if files_at_hand else {}
    entry = store.get(full_key(base, sources)) if files_at_hand else None
    if entry is None or entry.provenance is not None:  # a probe here that named other files comes before a bundle's
        entry = _applicable(subject, _of_same_factors(store, base), files_at_hand)
    if entry is None:
        return LookUp(None, None, _changed_sources(store, base, sources))
    return _hit(store, subject, entry, files_at_hand)


def _hit(
    store: VerdictStore, subject: Subject, entry: Entry, files_at_hand: bool, accepted_platform: str | None = None
) -> LookUp:
    """An entry that applies. A verdict that rests on the proof of the plain launch falls with it."""
    report, verdict = current_report(store, entry)
    lookup = LookUp(entry, verdict, report=report, verified=files_at_hand, accepted_platform=accepted_platform)
    proof = stored_proof(report, PLAIN)
    if proof is None or verdict.word not in BY_PROOF:
        return lookup
    why_not = outdated(proof, subject, files_at_hand=files_at_hand)
    lookup = replace(lookup, outdated={PLAIN: why_not})
    if not why_not:
        return lookup
    fallen = replace(verdict, word=Word.INCONCLUSIVE, reasons=(reason("proof_outdated", why_not),))
    return replace(lookup, verdict=fallen)


def _of_same_factors(store: VerdictStore, base: Mapping[str, Any]) -> list[Entry]:
    """Entries of exactly these factors, whatever their source files."""
    alike = store.of_architecture(str(base["architecture"]))
    return [entry for entry in alike if differences(entry.key, base) == SOURCES]


def _applicable(subject: Subject, alike: Sequence[Entry], files_at_hand: bool) -> Entry | None:
    """The first of the entries, in order of precedence, whose source files are here as they were where it was made."""
    ordered = sorted(alike, key=lambda entry: (entry.provenance is None, entry.probed_at), reverse=True)
    if not files_at_hand:
        return next(iter(ordered), None)
    here = hash_sources(subject.environment, sorted({file for entry in ordered for file in entry.sources}))
    return next((entry for entry in ordered if entry.sources.items() <= here.items()), None)


def _on_another_platform(
    store: VerdictStore, subject: Subject, factors: dict[str, Any], files_at_hand: bool, missed: LookUp
) -> LookUp:
    """A verdict of the platform that `factors` names, where the environment's own has none."""
    alike = store.of_architecture(str(factors["architecture"]))
    there = [entry for entry in alike if entry.key.get("platform") == factors["platform"]]
    names = {entry.digest: differences(_public(entry.key), _public(factors)) for entry in there}
    same = [entry for entry in there if names[entry.digest] == SOURCES]
    entry = _applicable(subject, same, files_at_hand)
    if entry is not None:
        return _hit(store, subject, entry, files_at_hand, str(factors["platform"]))
    nearest = min(there, key=lambda entry: len(names[entry.digest]), default=None)
    if nearest is None:
        why = _nothing_stored(f"{factors['architecture']} on {factors['platform']}")
    elif nearest in same:
        why = _files_differ(nearest, hash_sources(subject.environment, nearest.sources))
    else:
        why = _factors_differ(nearest, names[nearest.digest], factors)
    return _also_missed(missed, reason("missed_on_platform", why, platform=str(factors["platform"])))


def _public(key: Mapping[str, Any]) -> dict[str, Any]:
    # Older releases told no plugins apart.
    return {"plugins": "", **key, **{name: public_version(key.get(name)) for name in ("torch", "vllm")}}


def _also_missed(lookup: LookUp, why: Reason) -> LookUp:
    return replace(lookup, miss=(*lookup.miss, why))


def _explained(store: VerdictStore, base: Mapping[str, Any]) -> tuple[Reason, ...]:
    """Why there is no entry: the factors in which the nearest one differs."""
    nearest = store.nearest(base, str(base["architecture"]))
    return (_nothing_stored(str(base["architecture"])) if nearest is None else _factors_differ(*nearest, base),)


def _changed_sources(store: VerdictStore, base: Mapping[str, Any], sources: Mapping[str, str]) -> tuple[Reason, ...]:
    """Why the entry does not apply here: the source files that differ from those it was probed with."""
    nearest = store.nearest(base, str(base["architecture"]))
    if nearest is None or nearest[1] != SOURCES:  # its entry was forgotten, and the file list stayed
        return _explained(store, base)
    return (_files_differ(nearest[0], sources),)


def _not_compared(plugins: Sequence[str]) -> Reason:
    """Why nothing applies beside plugins whose files are not known; a saved environment may not tell any."""
    if UNKNOWN in plugins:
        return reason("plugins_unknown")
    return reason("plugin_files_unknown", plugins=", ".join(plugins))


def _nothing_stored(what: str) -> Reason:
    return reason("no_verdict_for", what=what)


def _factors_differ(entry: Entry, names: Sequence[str], base: Mapping[str, Any]) -> Reason:
    telling = [name for name in names if _tells(name, entry, base)]
    changes = [_change(name, entry.key.get(name), base.get(name)) for name in telling]
    return reason("nearest_differs", key=entry.digest, factors=", ".join(telling), changes="; ".join(changes))


def _tells(name: str, entry: Entry, base: Mapping[str, Any]) -> bool:
    """Whether a factor that differs is worth naming; an empty one and one that an older release lacks are the same."""
    return name != "sources" and bool(entry.key.get(name) or base.get(name))


def _change(name: str, stored: object, here: object) -> str:
    if name in DIGESTS:
        return DIGESTS[name]
    return f"{name} (stored: {stored or 'none'}, here: {here or 'none'})"


def _files_differ(entry: Entry, sources: Mapping[str, str]) -> Reason:
    stored = entry.sources
    changed = [file for file in sorted({*stored, *sources}) if stored.get(file) != sources.get(file)]
    missing = sum(sources.get(file) == MISSING for file in changed)
    return reason("sources_differ", total=len(stored), changed=len(changed), first=changed[0], gone=missing)


ATTEMPTS = 100
"""Times that a change of a stored entry is tried anew because another process was faster."""
BY_PROOF = frozenset({Word.UNIFORM, Word.NOT_COMPILED})
"""Verdicts that say what the proof of the plain launch says."""
SOURCES = ("sources",)
"""The one factor in which a key differs from its own base."""
DIGESTS = {
    "fingerprint": "the model's configuration",
    "remote_code": "the model's own code, or the leave to run it",
    "worker": "the probe itself (by another release of this tool)",
}
"""Factors whose values tell a reader nothing."""


def opened_store(path: str | None, environ: Mapping[str, str]) -> VerdictStore:
    """The verdict store that the option, the environment or XDG names.

    Raises:
        StoreError: nothing names one.
    """
    return VerdictStore(store_path(path, environ), named=bool(path))
