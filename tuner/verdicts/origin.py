"""Where a verdict comes from, in words: what was imported, or reached on another platform, always says so. Pure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache.verdicts.entry import Entry
    from tuner.verdicts.answer import LookUp

HERE, IMPORTED = "probed here", "imported"
"""The two origins of an entry, as `tuner verdicts list` calls them."""


def origin_of(entry: "Entry") -> str:
    """One of the two origins."""
    return HERE if entry.provenance is None else IMPORTED


def origin_told(entry: "Entry") -> str:
    """The origin, and who signed an imported entry's bundle, if that was checked."""
    return origin_of(entry) + _signed(entry)


def imported_short(entry: "Entry | None") -> str:
    """`imported from FILE on DATE, signed with the key KEY`; empty for what was probed here."""
    if entry is None or entry.provenance is None:
        return ""
    file, date = printable(entry.provenance["imported_from"]), printable(entry.provenance["imported_at"])[:10]
    return f"imported from {file} on {date}{_signed(entry)}"


def imported_full(entry: "Entry") -> str:
    """As `imported_short`, with the command that is said to have made the verdict."""
    origin = imported_short(entry)
    command = entry.provenance["command"] if entry.provenance else None
    return f"{origin}, made with: {printable(command)}" if command else origin


def _signed(entry: "Entry") -> str:
    """Nothing is said where no signature was required: one that lay beside the bundle was not looked at."""
    key = entry.provenance.get("signed_by") if entry.provenance else None
    return f", signed with the key {key}" if key else ""


def ran_code(entry: "Entry") -> str:
    """The sentence about a model whose own code ran in the probe; empty if none did."""
    code = printable(entry.key.get("remote_code"))
    return f"the model's own code ran (--trust-remote-code), {code[:12]}" if code else ""


def accepted(lookup: "LookUp") -> str:
    """The sentence about a verdict of another platform; empty for one of the launch's own."""
    platform = printable(lookup.accepted_platform)
    sentence = f"the verdict was reached on {platform} and is used here on your word (--accept-platform {platform})"
    return sentence if lookup.accepted_platform else ""


def imported_sentence(lookup: "LookUp") -> tuple[str, ...]:
    """The sentence about an imported verdict; none for one that was probed here."""
    imported = imported_full(lookup.entry) if lookup.entry else ""
    return (f"the verdict was {imported}",) if imported else ()


def draft_notes(draft: "LookUp | None") -> tuple[str, ...]:
    """What to say of the verdict that clears a draft model."""
    imported = imported_full(draft.entry) if draft and draft.entry else ""
    return (f"the draft model's verdict was {imported}",) if imported else ()


def printable(foreign: object) -> str:
    """Text from a bundle or an option on one line, without what would steer a terminal or end a comment."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(foreign or ""))
