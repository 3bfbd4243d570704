"""Verdicts on their way out of a store and into another: what `tuner verdicts export` and `import` do."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cache.entry import Entry
from cache.store import VerdictStore
from rules.errors import RuleError
from tuner.bundle import MAX_LINE, Bundled, BundleError, line_in, line_of
from tuner.errors import ExitCode, TunerError
from tuner.identity import rules_digest
from tuner.memory import current_verdict


class Fate(StrEnum):
    """What became of an imported verdict."""

    NEW = "new"
    """Stored; there was none of its key."""
    REPLACED = "replaced"
    """Stored in place of another imported one."""
    KNOWN = "known"
    """The same was stored already."""
    LOCAL = "kept_local"
    """Not stored: one of the same key was probed here."""
    OTHER = "kept_imported"
    """Not stored: another one of the same key was imported before."""


@dataclass(frozen=True)
class Exported:
    """A bundle about to be written.

    Attributes:
        text: its lines, by architecture and then digest.
        left_out: a sentence for each entry whose report the rules of this release cannot read.
    """

    text: str
    left_out: tuple[str, ...]


def export(store: VerdictStore, prefixes: Sequence[str], command: str | None) -> Exported:
    """Stored verdicts as a bundle, judged by the rules of this release.

    Args:
        store: where they are.
        prefixes: starts of the keys wanted; none: all.
        command: what made them; None: what an imported entry says itself.

    Raises:
        TunerError: there is no such entry, or none at all.
        StoreError: the store or a record is damaged.
    """
    lines: list[tuple[str, str, str]] = []
    left_out = []
    for entry in _wanted(store, prefixes):
        try:
            judged = replace(entry, verdict=current_verdict(store, entry).to_dict(), rules=rules_digest())
        except RuleError as error:
            left_out.append(f"left out {entry.digest[:12]}: {error.message}; {error.hint}")
            continue
        said = command or (entry.provenance["command"] if entry.provenance else None)
        lines.append((str(entry.key["architecture"]), entry.digest, line_of(Bundled(judged, said))))
    return Exported("".join(line for _, _, line in sorted(lines)), tuple(left_out))


def import_file(store: VerdictStore, path: Path, *, replacing: bool) -> Counter[Fate]:
    """Store the verdicts of a bundle: all that are wanted or, if any line is damaged, none.

    What was probed here is never replaced.

    Args:
        store: where to.
        path: the bundle.
        replacing: an entry that was imported before gives way to a different one.

    Raises:
        TunerError: the file cannot be read, or a line is damaged; the sentence names it.
        StoreError: the store cannot be written, or an entry of one of these keys is damaged there.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entries, repeated = _distinct(path, now)
    fates = Counter({Fate.KNOWN: repeated})

    def wanted(stored: Entry | None, new: Entry) -> bool:
        fate = _fate(stored, new, replacing)
        fates[fate] += 1
        return fate in {Fate.NEW, Fate.REPLACED}

    store.merge(entries, wanted)
    return fates


def told(fates: Counter[Fate]) -> str:
    """What `tuner verdicts import` prints: one line for each fate that some verdict met, those stored first."""
    words = {
        Fate.NEW: "new",
        Fate.REPLACED: "in place of another imported one",
        Fate.KNOWN: "known already",
        Fate.LOCAL: "not stored: a verdict of the same key was probed here, and wins",
        Fate.OTHER: "not stored: another verdict of the same key was imported before; --replace takes this file's",
    }
    return "\n".join(f"{fates[fate]:>4}  {said}" for fate, said in words.items() if fates[fate])


def _fate(stored: Entry | None, new: Entry, replacing: bool) -> Fate:
    if stored is None:
        return Fate.NEW
    if _same(stored, new):
        return Fate.KNOWN
    if stored.provenance is None:
        return Fate.LOCAL
    return Fate.REPLACED if replacing else Fate.OTHER


def _same(left: Entry, right: Entry) -> bool:
    """Whether two entries of one key rest on the same probe; verdicts follow from reports."""
    return (left.report, left.sources, left.probed_at) == (right.report, right.sources, right.probed_at)


def _distinct(path: Path, now: str) -> tuple[list[Entry], int]:
    """The entries of a bundle, and how many lines only repeat another."""
    found: dict[str, tuple[int, Entry]] = {}
    repeated = 0
    for number, text in _lines(path):
        try:
            new = line_in(text).imported(path.name, now)
        except BundleError as error:
            raise _damaged(path, number, error.reason, error.hint) from None
        first, entry = found.setdefault(new.digest, (number, new))
        if first != number and not _same(entry, new):
            reason = f"it is another verdict of the key of line {first}, {new.digest[:12]}"
            raise _damaged(path, number, reason, "Leave one of the two lines out.")
        repeated += first != number
    if not found:
        raise TunerError(f"{path} holds no verdict: it is empty.", hint=_MAKE, kind="bundle")
    return [entry for _, entry in found.values()], repeated


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line with its number, from 1; one that is too long is cut, and still too long."""
    try:
        with path.open("rb") as stream:
            number = 0
            while text := stream.readline(MAX_LINE + 1):
                number += 1
                yield number, text
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        said = error.strerror if isinstance(error, OSError) else error
        raise TunerError(f"The bundle {path} cannot be read: {said}.", hint=_MAKE, kind="bundle") from None


def _damaged(path: Path, number: int, reason: str, hint: str) -> TunerError:
    return TunerError(
        f"{path}, line {number} is damaged: {reason}. Nothing was stored.", hint=hint or _MAKE, kind="bundle"
    )


def _wanted(store: VerdictStore, prefixes: Sequence[str]) -> list[Entry]:
    if not prefixes:
        return _required(list(store.entries()), "No verdict is stored, so there is nothing to export.")
    found = [
        _required(
            [one] if (one := store.find(prefix)) else [], f"No stored verdict has a key that starts with {prefix}."
        )[0]
        for prefix in prefixes
    ]
    return list({entry.digest: entry for entry in found}.values())


def _required(entries: list[Entry], otherwise: str) -> list[Entry]:
    if not entries:
        hint = "`tuner verdicts list` shows what is stored."
        raise TunerError(otherwise, hint=hint, exit_code=ExitCode.UNKNOWN)
    return entries


_MAKE = "Make a bundle with `tuner verdicts export > FILE`."
