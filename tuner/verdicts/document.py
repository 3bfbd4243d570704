"""Stored verdicts as parts of JSON documents: a row of a list, and a whole entry. Pure."""

from typing import Any

from msgspec import to_builtins

from cache.verdicts.entry import Entry
from rules.verdict import Verdict


def row_part(entry: Entry, verdict: Verdict | None) -> dict[str, Any]:
    """For a list of verdicts: one entry; `verdict` is null for one that this release cannot read."""
    return {
        "key": entry.digest,
        "verdict": verdict and verdict.word,
        "factors": entry.key,
        "probed_at": entry.probed_at,
        "imported": entry.provenance,
        "origin": to_builtins(entry.origin),
    }


def entry_part(entry: Entry, verdict: Verdict) -> dict[str, Any]:
    """The whole entry, its report included."""
    stored = entry.to_dict() | {"verdict": verdict.to_dict(), "imported": entry.provenance}
    stored.pop("provenance", None)
    return {"digest": entry.digest, **stored, "origin": to_builtins(entry.origin)}
