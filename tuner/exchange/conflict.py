"""What becomes of a verdict that is imported: which of two verdicts of one key stays, and how that is said. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cache.verdicts.entry import Entry
from cache.verdicts.place import Place
from rules.proof_finding import ProofWord
from rules.verdict import Verdict
from tuner.text import visible
from tuner.verdicts.origin import HERE, origin_of, origin_told


class ImportOutcome(StrEnum):
    """What became of an imported verdict."""

    NEW = "new"
    """Stored; there was none of its key."""
    REPLACED = "replaced"
    """Stored in place of another imported one."""
    OVER_LOCAL = "replaced_local"
    """Stored in place of one that was probed here."""
    KNOWN = "known"
    """The same was stored already."""
    LOCAL = "kept_local"
    """Not stored: one of the same key was probed here."""
    UNSAFE = "kept_unsafe"
    """Not stored: a probe here found unsafe what this one calls safe."""
    OTHER = "kept_imported"
    """Not stored: another one of the same key was imported before."""
    OLDER = "kept_newer"
    """Not stored: a line of the same key came before that was signed later."""


IN_WORDS = {
    ImportOutcome.NEW: "new",
    ImportOutcome.REPLACED: "in place of another imported one",
    ImportOutcome.OVER_LOCAL: "in place of one that was probed here",
    ImportOutcome.KNOWN: "known already",
    ImportOutcome.LOCAL: "not stored: a verdict of the same key was probed here, and wins; "
    "--replace-local takes this file's",
    ImportOutcome.UNSAFE: "not stored: a probe here found unsafe what this file calls safe",
    ImportOutcome.OTHER: "not stored: another verdict of the same key was imported before; --replace takes this file's",
    ImportOutcome.OLDER: "not stored: a line of the same verdict came before that was signed later",
}
"""Each fate in words, those stored first."""
STORED = {ImportOutcome.NEW, ImportOutcome.REPLACED, ImportOutcome.OVER_LOCAL}


@dataclass(frozen=True)
class Conflict:
    """A verdict of a bundle that another one of the same key was stored for.

    Attributes:
        stored: the entry that was there.
        was: its verdict, by the rules of this release.
        new: the bundle's entry.
        now: its verdict.
        fate: what became of the new one.
    """

    stored: Entry
    was: Verdict
    new: Entry
    now: Verdict
    fate: ImportOutcome


@dataclass(frozen=True)
class Imported:
    """What became of a bundle.

    Attributes:
        fates: how many verdicts met each.
        conflicts: those that another verdict of their key was stored for, whichever stayed.
    """

    fates: Counter[ImportOutcome]
    conflicts: tuple[Conflict, ...]


def same(first: Entry, second: Entry) -> bool:
    """Whether two entries of one key rest on the same probe; verdicts follow from reports."""
    return (first.report, first.sources, first.probed_at) == (second.report, second.sources, second.probed_at)


def resolve_conflict(stored: Entry, was: Verdict, now: Verdict, giving_way: Collection[str]) -> ImportOutcome:
    """Which of two different verdicts of one key stays.

    Args:
        stored: the entry that is there.
        was: its verdict, by the rules of this release.
        now: that of the bundle.
        giving_way: the origins whose entries give way; see `tuner.verdicts.origin`.
    """
    local = origin_of(stored) == HERE
    if origin_of(stored) not in giving_way:
        return ImportOutcome.LOCAL if local else ImportOutcome.OTHER
    if local and _hides(was, now):
        return ImportOutcome.UNSAFE
    return ImportOutcome.OVER_LOCAL if local else ImportOutcome.REPLACED


def imported_text(imported: Imported, place: Place) -> str:
    """One line for each fate that some verdict met, those stored first, and one for each conflict.

    Args:
        imported: what became of a bundle.
        place: of the store that it was imported into.
    """
    fates = imported.fates
    gives_up = f"`{place.command('verdicts', 'forget', 'KEY')}` gives it up"
    sentences = {**IN_WORDS, ImportOutcome.UNSAFE: f"{IN_WORDS[ImportOutcome.UNSAFE]}; {gives_up}"}
    lines = [f"{fates[fate]:>4}  {sentence}" for fate, sentence in sentences.items() if fates[fate]]
    return "\n".join([*lines, *(_line(conflict) for conflict in imported.conflicts)])


def document(imported: Imported) -> dict[str, Any]:
    """The members `imported` and `conflicts` of the JSON document."""
    rows = [
        {
            "key": conflict.new.digest,
            "architecture": conflict.new.key["architecture"],
            "stored": {
                "verdict": conflict.was.word,
                "probed_at": conflict.stored.probed_at,
                "imported": conflict.stored.provenance,
            },
            "in_bundle": {"verdict": conflict.now.word, "probed_at": conflict.new.probed_at},
            "result": conflict.fate,
        }
        for conflict in imported.conflicts
    ]
    return {"imported": {fate: imported.fates[fate] for fate in ImportOutcome}, "conflicts": rows}


def _line(conflict: Conflict) -> str:
    stored, new = conflict.stored, conflict.new
    was = f"{conflict.was.word} ({origin_told(stored)}, {stored.probed_at[:10]})"
    now = f"{conflict.now.word} (this file, {new.probed_at[:10]})"
    outcome = f"{now} in place of {was}" if conflict.fate in STORED else f"{was} stays, not {now}"
    return f"      {new.digest[:12]}  {visible(str(new.key['architecture']))}: {outcome}"


def _hides(was: Verdict, now: Verdict) -> bool:
    """Whether a model that was found unsafe is called safe now, or a warning would be lost.

    A launch that the new one did not prove needs no more: it gets the safe value. Of compiling, only `frozen` warns.
    """
    lost = was.compile == "frozen" and now.compile != "frozen"
    return lost or (was.word.unsafe and now.word.safe) or any(_proves_more(was, now))


def _proves_more(was: Verdict, now: Verdict) -> Iterator[bool]:
    """For each launch that both looked at, whether it is proved now and was refuted before."""
    for key, before in was.proofs.items():
        after = now.proofs.get(key)
        yield before.word is ProofWord.REFUTED and after is not None and after.proved
